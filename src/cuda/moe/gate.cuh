// The consumers' work before the GEMMs: router logits, and x to e4m3. Owned here: the order of the
// logits' sums. Invariant: a logit depends on its token's x, its router row and H alone: K in
// chunks of 64, chunk c summed by warp c % 8 in ascending order, the eight sums added in warp
// order.
#pragma once

#include "cuda/moe/rounding.cuh"
#include "cuda/moe/route.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// What the gate will read, before anything else of the block: its 128-byte lines, one a thread
// (`line` of the launch).
__device__ inline void prefetch_gate(const Params& p, int line) {
  if (p.router == nullptr || p.tokens_device != nullptr) return;
  const int lines = p.hidden / 64;  // of a row
  const int row = line / lines;
  const int at = line % lines * 128;
  if (row < p.experts_total) {
    prefetch_line(static_cast<const std::byte*>(p.router) + std::int64_t{1} * row * lines * 128 +
                  at);
  } else if (row - p.experts_total < p.tokens) {
    prefetch_line(static_cast<const std::byte*>(p.x) + 2 * (row - p.experts_total) * p.x_stride +
                  at);
  }
}

// Row r of the launch's router matrix: the experts', then the shared gate's.
__device__ inline const std::byte* router_row(const Params& p, int row) {
  const int experts = p.ids == nullptr ? p.experts_total : 0;
  return row < experts ? static_cast<const std::byte*>(p.router) + std::int64_t{2} * row * p.hidden
                       : static_cast<const std::byte*>(p.shared_gate);
}

__device__ inline uint4 load_16(const std::byte* from) {
  return __ldg(reinterpret_cast<const uint4*>(from));
}

// Logits of up to 16 router rows x (8 kGroups) tokens by the 8 consumer warps.
template <int kGroups, typename T>
__device__ void gate_logits(const Params& p, SharedState<T>& s, const Run& run, int first_token,
                            int first_row, int rows, int consumer) {
  const int tokens = run.launch.tokens;
  const int warp = consumer / 32;
  const int lane = consumer % 32;
  const int quad = lane % 4;
  // Lane (r, q) reads 16 bytes of its rows at K = 8 q: what one mma calls k = 2q, 2q + 1, 2q + 8,
  // 2q + 9 are neighbours in memory here, for both operands alike. Rows and tokens beyond the last
  // repeat it: mma keeps rows and columns apart, and theirs are dropped.
  const std::byte* a_low = router_row(p, first_row + min(lane / 4, rows - 1)) + quad * 16;
  const std::byte* a_high = router_row(p, first_row + min(lane / 4 + 8, rows - 1)) + quad * 16;
  const std::byte* b[kGroups];
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int token = min(first_token + 8 * g + lane / 4, tokens - 1);
    b[g] = static_cast<const std::byte*>(p.x) + 2 * token * p.x_stride + quad * 16;
  }
  float sum[kGroups][4] = {};
#pragma unroll(kGroups == 1 ? 4 : 2)
  for (int chunk = warp; chunk < p.hidden / 64; chunk += kConsumerWarps) {
    const int byte = chunk * 128;
    uint4 low[2];
    uint4 high[2];
    uint4 token[kGroups][2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      low[half] = load_16(a_low + byte + half * 64);
      high[half] = rows > 8 ? load_16(a_high + byte + half * 64) : low[half];
#pragma unroll
      for (int g = 0; g < kGroups; ++g) token[g][half] = load_16(b[g] + byte + half * 64);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        mma_bf16(sum[g], low[half].x, high[half].x, low[half].y, high[half].y, token[g][half].x,
                 token[g][half].y);
        mma_bf16(sum[g], low[half].z, high[half].z, low[half].w, high[half].w, token[g][half].z,
                 token[g][half].w);
      }
    }
  }
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    float* mine = s.partial + warp * 128;
    mine[(lane / 4) * 8 + 2 * quad] = sum[g][0];
    mine[(lane / 4) * 8 + 2 * quad + 1] = sum[g][1];
    mine[(lane / 4 + 8) * 8 + 2 * quad] = sum[g][2];
    mine[(lane / 4 + 8) * 8 + 2 * quad + 1] = sum[g][3];
    named_barrier(kConsumerBarrier, kConsumers);
    const int row = consumer / 8;
    const int token = first_token + 8 * g + consumer % 8;
    if (consumer < 128 && row < rows && token < tokens) {
      float total = 0;
      for (int w = 0; w < kConsumerWarps; ++w) total += s.partial[w * 128 + consumer];
      const int column = p.ids == nullptr ? first_row + row : p.experts_total;
      const std::int64_t at = std::int64_t{1} * token * logits_stride(p.experts_total) + column;
      if (p.local_lists) {
        store_word(p.logit_words + at, __float_as_uint(total), run.tag);
      } else {
        p.logits[at] = total;
      }
    }
    named_barrier(kConsumerBarrier, kConsumers);
  }
}

// The same for up to 16 kRows router rows and 32 tokens.
template <int kRows, typename T>
__device__ void wide_gate_logits(const Params& p, SharedState<T>& s, int tokens, int first_token,
                                 int first_row, int rows, int consumer) {
  constexpr int kGroups = 4;
  const int warp = consumer / 32;
  const int lane = consumer % 32;
  const int quad = lane % 4;
  const std::byte* a[kRows][2];
  const std::byte* b[kGroups];
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = min(16 * m + 8 * half + lane / 4, rows - 1);
      a[m][half] = router_row(p, first_row + row) + quad * 16;
    }
  }
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int token = min(first_token + 8 * g + lane / 4, tokens - 1);
    b[g] = static_cast<const std::byte*>(p.x) + 2 * token * p.x_stride + quad * 16;
  }
  float sum[kRows][kGroups][4] = {};
#pragma unroll 1
  for (int chunk = warp; chunk < p.hidden / 64; chunk += kConsumerWarps) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int byte = chunk * 128 + half * 64;
      uint4 row[kRows][2];
      uint4 token[kGroups];
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        row[m][0] = load_16(a[m][0] + byte);
        row[m][1] = load_16(a[m][1] + byte);
      }
#pragma unroll
      for (int g = 0; g < kGroups; ++g) token[g] = load_16(b[g] + byte);
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
          mma_bf16(sum[m][g], row[m][0].x, row[m][1].x, row[m][0].y, row[m][1].y, token[g].x,
                   token[g].y);
          mma_bf16(sum[m][g], row[m][0].z, row[m][1].z, row[m][0].w, row[m][1].w, token[g].z,
                   token[g].w);
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      float* mine = s.partial + warp * 128;
      mine[(lane / 4) * 8 + 2 * quad] = sum[m][g][0];
      mine[(lane / 4) * 8 + 2 * quad + 1] = sum[m][g][1];
      mine[(lane / 4 + 8) * 8 + 2 * quad] = sum[m][g][2];
      mine[(lane / 4 + 8) * 8 + 2 * quad + 1] = sum[m][g][3];
      named_barrier(kConsumerBarrier, kConsumers);
      const int row = 16 * m + consumer / 8;
      const int token = first_token + 8 * g + consumer % 8;
      if (consumer < 128 && row < rows && token < tokens) {
        float total = 0;
        for (int w = 0; w < kConsumerWarps; ++w) total += s.partial[w * 128 + consumer];
        const int column = p.ids == nullptr ? first_row + row : p.experts_total;
        p.logits[std::int64_t{1} * token * logits_stride(p.experts_total) + column] = total;
      }
      named_barrier(kConsumerBarrier, kConsumers);
    }
  }
}

template <typename T>
__device__ __noinline__ void gate_task(const Params& p, SharedState<T>& s, const Run& run,
                                       const Task& task, int consumer) {
  const int first_token = task.tile * p.gate_tokens;
  const int total_rows =
      (p.ids == nullptr ? p.experts_total : 0) + (p.shared_gate != nullptr ? 1 : 0);
  const int first_row = task.unit * p.gate_rows;
  const int rows = min(p.gate_rows, total_rows - first_row);
  if (T::kImages && rows > kGateRows) {
    if constexpr (T::kImages) {
      wide_gate_logits<kWideGateRows / 16>(p, s, run.launch.tokens, first_token, first_row, rows,
                                           consumer);
    }
  } else if (p.gate_tokens == 8) {
    gate_logits<1>(p, s, run, first_token, first_row, rows, consumer);
  } else {
    gate_logits<4>(p, s, run, first_token, first_row, rows, consumer);
  }
  if (consumer == 0 && !p.local_lists) add_release(run.gate_arrived + task.tile, 1);
}

// Top-k of 8 tokens, a warp a token.
inline __device__ __noinline__ void dispatch_task(const Params& p, const Run& run, Chosen* chosen,
                                                  const Task& task, int consumer) {
  const int lane = consumer % 32;
  const int token = task.tile * kWarpTokens + consumer / 32;
  if (token < run.launch.tokens) {
    if (run.launch.gate_tiles > 0 && !p.local_lists) {
      if (lane == 0) {
        wait_for_count(run.gate_arrived + token / p.gate_tokens,
                       static_cast<std::uint32_t>(run.launch.gate_units), "router logits");
      }
      __syncwarp();
    }
    dispatch_token(p, run, chosen + consumer / 32 * kMaxTopK, token, lane);
  }
  if (p.local_lists) return;
  named_barrier(kConsumerBarrier, kConsumers);
  if (consumer == 0) add_release(&run.set->routed, 1);
}

__device__ inline uint2 load_four(const std::byte* x, int group, int groups, int lane) {
  return group < groups ? __ldg(reinterpret_cast<const uint2*>(x + group * 256 + lane * 8))
                        : uint2{};
}

// x of 8 tokens to e4m3, a warp a token: scale = max(|x|, 1e-10) / 448 per 128 elements.
inline __device__ __noinline__ void quantise_task(const Params& p, const Run& run, const Task& task,
                                                  int consumer) {
  constexpr int kAhead = 8;
  const int lane = consumer % 32;
  const int token = task.tile * kWarpTokens + consumer / 32;
  if (token < run.launch.tokens) {
    const auto* x = static_cast<const std::byte*>(p.x) + 2 * token * p.x_stride;
    std::byte* out = p.x_quantised + std::int64_t{1} * token * p.hidden;
    const int groups = p.hidden / 128;
    uint2 ahead[kAhead];  // loads in flight
#pragma unroll
    for (int i = 0; i < kAhead; ++i) ahead[i] = load_four(x, i, groups, lane);
#pragma unroll 1
    for (int group = 0; group < groups; ++group) {
      const uint2 four = ahead[0];
#pragma unroll
      for (int i = 1; i < kAhead; ++i) ahead[i - 1] = ahead[i];
      ahead[kAhead - 1] = load_four(x, group + kAhead, groups, lane);
      const float v[4] = {low_bf16(four.x), high_bf16(four.x), low_bf16(four.y), high_bf16(four.y)};
      float largest = fmaxf(fmaxf(fabsf(v[0]), fabsf(v[1])), fmaxf(fabsf(v[2]), fabsf(v[3])));
      for (int step = 16; step > 0; step /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, step));
      }
      const float scale = scale_of(largest);
      const std::uint32_t packed =
          pack_e4m3(v[0] / scale, v[1] / scale) | pack_e4m3(v[2] / scale, v[3] / scale) << 16;
      *reinterpret_cast<std::uint32_t*>(out + group * 128 + lane * 4) = packed;
      if (lane == 0) p.x_scales[std::int64_t{1} * token * groups + group] = scale;
    }
  }
  named_barrier(kConsumerBarrier, kConsumers);
  if (consumer == 0) add_release(&run.set->quantised, 1);
}

}  // namespace moeopt::cuda::moe
