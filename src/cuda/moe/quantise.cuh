// x to e4m3, for the fp8 tiles. Owned here: x_quantised and x_scales. Invariant: a scale belongs to
// 128 elements of one token and depends on them alone (rounding.cuh).
#pragma once

#include "cuda/moe/rounding.cuh"
#include "cuda/moe/route.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// Eight values to e4m3.
__device__ __forceinline__ uint2 eight_to_e4m3(const uint4& eight, float scale, float inverse) {
  const std::uint32_t two[4] = {eight.x, eight.y, eight.z, eight.w};
  std::uint32_t packed[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    packed[j] = pack_e4m3(quotient(low_bf16(two[j]), scale, inverse),
                          quotient(high_bf16(two[j]), scale, inverse));
  }
  return {packed[0] | packed[1] << 16, packed[2] | packed[3] << 16};
}
// The largest absolute values of eight, even and odd ones apart; NaN counts as nothing.
__device__ __forceinline__ std::uint32_t largest_two(const uint4& eight) {
  constexpr std::uint32_t kNoSigns = 0x7fff7fffu;
  return max_bf16x2(max_bf16x2(eight.x & kNoSigns, eight.y & kNoSigns),
                    max_bf16x2(eight.z & kNoSigns, eight.w & kNoSigns));
}
__device__ __forceinline__ void publish_quantised(const Run& run, int consumer) {
  named_barrier(kConsumerBarrier, kConsumers);
  if (consumer == 0) add_release(&run.set->quantised, 1);
}

// A task of few tokens: short code, which comes cold from memory. A group of 128 is with 16 lanes;
// a warp's two groups of a token go round the warps.
inline __device__ __noinline__ void quantise_few(const Params& p, const Run& run, const Task& task,
                                                 int consumer) {
  constexpr int kAtOnce = 2;  // loads of a warp in flight
  const int first = task.tile * run.launch.quantise_tokens;
  const int end = min(first + run.launch.quantise_tokens, run.launch.tokens);
  const int lane = consumer % 32;
  const int groups = p.hidden / 128;
  const int pairs = ceil_div(groups, 2);
  const int items = (end - first) * pairs;
#pragma unroll 1
  for (int start = consumer / 32; start < items; start += kAtOnce * kConsumerWarps) {
    uint4 eight[kAtOnce];
    int token[kAtOnce];
    int group[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int item = start + i * kConsumerWarps;
      token[i] = first + item / pairs;
      group[i] = item % pairs * 2 + lane / 16;
      eight[i] = uint4{};
      if (item < items && group[i] < groups) {
        eight[i] = load_16(static_cast<const std::byte*>(p.x) + 2 * token[i] * p.x_stride +
                           group[i] * 256 + lane % 16 * 16);
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (start + i * kConsumerWarps >= items) break;
      std::uint32_t two = largest_two(eight[i]);
#pragma unroll
      for (int step = 8; step > 0; step /= 2) {
        two = max_bf16x2(two, __shfl_xor_sync(kAllLanes, two, step));
      }
      const float scale = scale_of(fmaxf(low_bf16(two), high_bf16(two)));
      if (group[i] >= groups) continue;
      const std::int64_t row = token[i];
      *reinterpret_cast<uint2*>(p.x_quantised + row * p.hidden + group[i] * 128 + lane % 16 * 8) =
          eight_to_e4m3(eight[i], scale, inverse_of(scale));
      if (lane % 16 == 0) p.x_scales[row * groups + group[i]] = scale;
    }
  }
  publish_quantised(run, consumer);
}

// A task of many: a warp has tokens of its own, a group of them is with eight lanes, each with
// elements 8 q .. 8 q + 7 and those 64 further on. Sixteen groups at a time, and the next sixteen
// asked for before these.
inline __device__ __noinline__ void quantise_many(const Params& p, const Run& run, const Task& task,
                                                  int consumer) {
  constexpr int kAtOnce = 4;  // times four groups
  const int first = task.tile * run.launch.quantise_tokens + consumer / 32;
  const int end = min((task.tile + 1) * run.launch.quantise_tokens, run.launch.tokens);
  const int lane = consumer % 32;
  const int groups = p.hidden / 128;
  const auto load = [&](uint4(&values)[kAtOnce][2], int token, int group) {
    const std::byte* from = static_cast<const std::byte*>(p.x) + 2 * token * p.x_stride +
                            (group + lane / 8) * 256 + lane % 8 * 16;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const bool here = token < end && group + 4 * i + lane / 8 < groups;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        values[i][half] = here ? load_16(from + i * 1024 + half * 128) : uint4{};
      }
    }
  };
  uint4 values[kAtOnce][2];
  int token = first;
  int group = 0;
  load(values, token, group);
#pragma unroll 1
  while (token < end) {
    const bool same = group + 4 * kAtOnce < groups;
    const int next_token = same ? token : token + kConsumerWarps;
    const int next_group = same ? group + 4 * kAtOnce : 0;
    uint4 next[kAtOnce][2];
    load(next, next_token, next_group);
    const std::int64_t row = token;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int own = group + 4 * i + lane / 8;
      std::uint32_t two = max_bf16x2(largest_two(values[i][0]), largest_two(values[i][1]));
#pragma unroll
      for (int step = 4; step > 0; step /= 2) {
        two = max_bf16x2(two, __shfl_xor_sync(kAllLanes, two, step));
      }
      const float scale = scale_of(fmaxf(low_bf16(two), high_bf16(two)));
      const float inverse = inverse_of(scale);
      if (own < groups) {
        std::byte* to = p.x_quantised + row * p.hidden + own * 128 + lane % 8 * 8;
        *reinterpret_cast<uint2*>(to) = eight_to_e4m3(values[i][0], scale, inverse);
        *reinterpret_cast<uint2*>(to + 64) = eight_to_e4m3(values[i][1], scale, inverse);
        if (lane % 8 == 0) p.x_scales[row * groups + own] = scale;
      }
      values[i][0] = next[i][0];
      values[i][1] = next[i][1];
    }
    token = next_token;
    group = next_group;
  }
  publish_quantised(run, consumer);
}

}  // namespace moeopt::cuda::moe
