// The consumers' first work: router logits. Owned here: the order of their sums. Invariant: a logit
// depends on its token's x, its router row and H alone: K in chunks of 64, chunk c summed by warp c
// % 8 in ascending order, the eight sums added in warp order.
#pragma once

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

// The same for up to 16 kRows router rows and 8 kGroups tokens.
template <int kRows, int kGroups, typename T>
__device__ __forceinline__ void wide_gate_logits(const Params& p, SharedState<T>& s, int tokens,
                                                 int first_token, int first_row, int rows,
                                                 int consumer) {
  constexpr int kAtOnce = kRows * kGroups <= 8 ? 2 : 1;  // halves of a chunk on their way
  const int warp = consumer / 32;
  const int lane = consumer % 32;
  const int quad = lane % 4;
  float sum[kRows][kGroups][4] = {};
#pragma unroll 1
  for (int chunk = warp; chunk < p.hidden / 64; chunk += kConsumerWarps) {
#pragma unroll 1
    for (int first = 0; first < 2; first += kAtOnce) {
      uint4 token[kAtOnce][kGroups];
      uint4 row[kAtOnce][kRows][2];
#pragma unroll
      for (int half = 0; half < kAtOnce; ++half) {
        const int byte = chunk * 128 + (first + half) * 64 + quad * 16;
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
          const int at = min(first_token + 8 * g + lane / 4, tokens - 1);
          token[half][g] = load_16(static_cast<const std::byte*>(p.x) + 2 * at * p.x_stride + byte);
        }
#pragma unroll
        for (int m = 0; m < 2 * kRows; ++m) {
          const int at = min(8 * m + lane / 4, rows - 1);
          row[half][m / 2][m % 2] = load_16(router_row(p, first_row + at) + byte);
        }
      }
#pragma unroll
      for (int half = 0; half < kAtOnce; ++half) {
#pragma unroll
        for (int m = 0; m < kRows; ++m) {
          const uint4 low = row[half][m][0];
          const uint4 high = row[half][m][1];
#pragma unroll
          for (int g = 0; g < kGroups; ++g) {
            const uint4 b = token[half][g];
            mma_bf16(sum[m][g], low.x, high.x, low.y, high.y, b.x, b.y);
            mma_bf16(sum[m][g], low.z, high.z, low.w, high.w, b.z, b.w);
          }
        }
      }
    }
  }
  // The warps' sums meet in the staging area, 16 rows x 32 tokens at a time.
  constexpr int kMeeting = 4;  // groups
  static_assert(sizeof(s.staging) >= kConsumerWarps * kMeeting * 128 * 4);
  static_assert(kGroups % kMeeting == 0);
  auto* partial = reinterpret_cast<float*>(s.staging);
#pragma unroll
  for (int part = 0; part < kRows * kGroups / kMeeting; ++part) {
    const int m = part % kRows;
    const int first_group = part / kRows * kMeeting;
#pragma unroll
    for (int g = 0; g < kMeeting; ++g) {
      float* mine = partial + (warp * kMeeting + g) * 128 + lane / 4 * 8 + 2 * quad;
      const float(&own)[4] = sum[m][first_group + g];
      *reinterpret_cast<float2*>(mine) = {own[0], own[1]};
      *reinterpret_cast<float2*>(mine + 64) = {own[2], own[3]};
    }
    named_barrier(kConsumerBarrier, kConsumers);
#pragma unroll
    for (int at = consumer; at < kMeeting * 128; at += kConsumers) {
      const int row = 16 * m + at % 128 / 8;
      const int token = first_token + 8 * (first_group + at / 128) + at % 8;
      if (row >= rows || token >= tokens) continue;
      float total = 0;
      for (int w = 0; w < kConsumerWarps; ++w) total += partial[w * kMeeting * 128 + at];
      const int column = p.ids == nullptr ? first_row + row : p.experts_total;
      p.logits[std::int64_t{1} * token * logits_stride(p.experts_total) + column] = total;
    }
    named_barrier(kConsumerBarrier, kConsumers);
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
  if constexpr (T::kImages) {
    const int tokens = run.launch.tokens;
    if (p.gate_tokens == kManyGateTokens) {
      wide_gate_logits<3, 8>(p, s, tokens, first_token, first_row, rows, consumer);
    } else if (p.gate_rows <= kGateRows) {
      wide_gate_logits<1, 4>(p, s, tokens, first_token, first_row, rows, consumer);
    } else {
      wide_gate_logits<2, 4>(p, s, tokens, first_token, first_row, rows, consumer);
    }
  } else if (p.gate_tokens == 8) {
    gate_logits<1>(p, s, run, first_token, first_row, rows, consumer);
  } else {
    gate_logits<4>(p, s, run, first_token, first_row, rows, consumer);
  }
  if (consumer == 0 && !p.local_lists) add_release(run.gate_arrived + task.tile, 1);
}

}  // namespace moeopt::cuda::moe
