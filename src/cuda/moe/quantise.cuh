// x to e4m3, for the fp8 tiles. Owned here: x_quantised and x_scales. Invariant: a scale belongs to
// 128 elements of one token and depends on them alone (rounding.cuh).
#pragma once

#include "cuda/moe/rounding.cuh"
#include "cuda/moe/route.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// Tokens of a task to e4m3, a scale per 128 elements: a group of 128 is with 16 lanes, so that a
// warp's item is two groups of a token. The items go round the warps, kAtOnce of a warp's at a
// time: their loads are in flight together.
template <int kAtOnce>
__device__ __noinline__ void quantise_task(const Params& p, const Run& run, const Task& task,
                                           int consumer) {
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
      const float inverse = inverse_of(scale);
      std::uint32_t packed[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        packed[j] =
            pack_e4m3(quotient(v[2 * j], scale, inverse), quotient(v[2 * j + 1], scale, inverse));
      }
      if (group[i] >= groups) continue;
      const std::int64_t row = token[i];
      *reinterpret_cast<uint2*>(p.x_quantised + row * p.hidden + group[i] * 128 + lane % 16 * 8) = {
          packed[0] | packed[1] << 16, packed[2] | packed[3] << 16};
      if (lane % 16 == 0) p.x_scales[row * groups + group[i]] = scale;
    }
  }
  named_barrier(kConsumerBarrier, kConsumers);
  if (consumer == 0) add_release(&run.set->quantised, 1);
}

}  // namespace moeopt::cuda::moe
