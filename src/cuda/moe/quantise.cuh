// x to e4m3, for the fp8 tiles. Owned here: x_quantised and x_scales. Invariant: a scale belongs to
// 128 elements of one token and depends on them alone (rounding.cuh).
#pragma once

#include "cuda/moe/rounding.cuh"
#include "cuda/moe/route.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// 8 of a lane's elements, of K group `group` of 128; a group is with 16 lanes.
__device__ inline uint4 load_eight(const std::byte* x, int group, int groups, int lane) {
  return group < groups ? load_16(x + group * 256 + lane % 16 * 16) : uint4{};
}

// A token's x to e4m3 by a warp: a scale per 128 elements.
__device__ __forceinline__ void quantise_token(const Params& p, int token, int lane) {
  constexpr int kAtOnce = 8;  // loads in flight, of two groups each
  const auto* x = static_cast<const std::byte*>(p.x) + 2 * token * p.x_stride;
  std::byte* out = p.x_quantised + std::int64_t{1} * token * p.hidden;
  const int groups = p.hidden / 128;
#pragma unroll 1
  for (int start = 0; start < groups; start += 2 * kAtOnce) {
    uint4 eight[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      eight[i] = load_eight(x, start + 2 * i + lane / 16, groups, lane);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int group = start + 2 * i + lane / 16;
      const float v[8] = {low_bf16(eight[i].x),  high_bf16(eight[i].x), low_bf16(eight[i].y),
                          high_bf16(eight[i].y), low_bf16(eight[i].z),  high_bf16(eight[i].z),
                          low_bf16(eight[i].w),  high_bf16(eight[i].w)};
      float largest = 0;
#pragma unroll
      for (const float value : v) largest = fmaxf(largest, fabsf(value));
#pragma unroll
      for (int step = 8; step > 0; step /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
      }
      const float scale = scale_of(largest);
      const float inverse = 1.0f / scale;
      std::uint32_t packed[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        packed[j] =
            pack_e4m3(quotient(v[2 * j], scale, inverse), quotient(v[2 * j + 1], scale, inverse));
      }
      if (group >= groups) continue;
      *reinterpret_cast<uint2*>(out + group * 128 + lane % 16 * 8) = {packed[0] | packed[1] << 16,
                                                                      packed[2] | packed[3] << 16};
      if (lane % 16 == 0) p.x_scales[std::int64_t{1} * token * groups + group] = scale;
    }
  }
}

inline __device__ __noinline__ void quantise_task(const Params& p, const Run& run, const Task& task,
                                                  int consumer) {
  const int first = task.tile * run.launch.task_tokens;
  const int end = min(first + run.launch.task_tokens, run.launch.tokens);
#pragma unroll 1
  for (int token = first + consumer / 32; token < end; token += kConsumerWarps) {
    quantise_token(p, token, consumer % 32);
  }
  named_barrier(kConsumerBarrier, kConsumers);
  if (consumer == 0) add_release(&run.set->quantised, 1);
}

}  // namespace moeopt::cuda::moe
