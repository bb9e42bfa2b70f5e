// The consumers' first work: router logits, here up to 512 tokens. Invariant: a logit depends on
// its token's x, its router row and H alone: K in eight ranges of whole chunks of 64
// (gate_range_begin), a range's products summed in steps of 16 in ascending order, the eight sums
// added in ascending order.
#pragma once

#include "cuda/moe/gate_tile.cuh"
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

// Logits of up to 16 router rows x (8 kGroups) tokens by the 8 consumer warps, a range of K each.
template <int kGroups, typename T>
__device__ void gate_logits(const Params& p, SharedState<T>& s, const Run& run,
                            const GateTask& task, int consumer) {
  const auto [first_token, end_token, first_row, rows] = task;
  const int warp = consumer / 32;
  const int lane = consumer % 32;
  const int quad = lane % 4;
  // Lane (r, q) reads 8 bytes of its rows at K = 16 n + 4 q: what the n-th mma calls k = 2q, 2q +
  // 1, 2q + 8, 2q + 9 are neighbours in memory here, for both operands alike. Rows and tokens
  // beyond the last repeat it: mma keeps rows and columns apart, and theirs are dropped.
  const std::byte* a_low = router_row(p, first_row + min(lane / 4, rows - 1)) + quad * 8;
  const std::byte* a_high = router_row(p, first_row + min(lane / 4 + 8, rows - 1)) + quad * 8;
  const std::byte* b[kGroups];
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int token = min(first_token + 8 * g + lane / 4, end_token - 1);
    b[g] = static_cast<const std::byte*>(p.x) + 2 * token * p.x_stride + quad * 8;
  }
  float sum[kGroups][4] = {};
  const int end = gate_range_begin(p.hidden / 64, warp + 1);
#pragma unroll(kGroups == 1 ? 4 : 2)
  for (int chunk = gate_range_begin(p.hidden / 64, warp); chunk < end; ++chunk) {
    const int byte = chunk * 128;
    uint2 low[4];
    uint2 high[4];
    uint2 token[kGroups][4];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      low[n] = load_8(a_low + byte + n * 32);
      high[n] = rows > 8 ? load_8(a_high + byte + n * 32) : low[n];
#pragma unroll
      for (int g = 0; g < kGroups; ++g) token[g][n] = load_8(b[g] + byte + n * 32);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        mma_bf16(sum[g], low[n].x, high[n].x, low[n].y, high[n].y, token[g][n].x, token[g][n].y);
      }
    }
  }
  float* partial = gate_sums(s);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    float* mine = partial + warp * 128;
    mine[(lane / 4) * 8 + 2 * quad] = sum[g][0];
    mine[(lane / 4) * 8 + 2 * quad + 1] = sum[g][1];
    mine[(lane / 4 + 8) * 8 + 2 * quad] = sum[g][2];
    mine[(lane / 4 + 8) * 8 + 2 * quad + 1] = sum[g][3];
    named_barrier(kConsumerBarrier, kConsumers);
    const int row = consumer / 8;
    const int token = first_token + 8 * g + consumer % 8;
    if (consumer < 128 && row < rows && token < end_token) {
      float total = 0;
      for (int w = 0; w < kConsumerWarps; ++w) total += partial[w * 128 + consumer];
      const int column = p.ids == nullptr ? first_row + row : p.experts_total;
      const std::int64_t at = std::int64_t{1} * token * logits_stride(p.experts_total) + column;
      if (local_lists<T>(p)) {
        store_word(p.logit_words + at, __float_as_uint(total), run.tag);
      } else {
        p.logits[at] = total;
      }
    }
    named_barrier(kConsumerBarrier, kConsumers);
  }
}

__device__ __forceinline__ GateTask gate_task_of(const Params& p, const Run& run,
                                                 const Task& task) {
  const int all = (p.ids == nullptr ? p.experts_total : 0) + (p.shared_gate != nullptr ? 1 : 0);
  const int first_token = task.tile * p.gate_tokens;
  const int first_row = task.unit * p.gate_rows;
  return {first_token, min(first_token + p.gate_tokens, run.launch.tokens), first_row,
          min(p.gate_rows, all - first_row)};
}

template <typename T>
__device__ __noinline__ void gate_task(const Params& p, SharedState<T>& s, const Run& run,
                                       const Task& task, int consumer) {
  const GateTask gate = gate_task_of(p, run, task);
  if (!T::kImages && p.gate_tokens == 8) {
    gate_logits<1>(p, s, run, gate, consumer);
  } else {
    gate_logits<4>(p, s, run, gate, consumer);
  }
  if (consumer == 0 && !local_lists<T>(p)) add_release(run.gate_arrived + task.tile, 1);
}

// Where the configuration's gate_rows says so (with images alone).
template <typename T>
__device__ __forceinline__ void wide_gate_task(const Params& p, SharedState<T>& s, const Run& run,
                                               const Task& task, int consumer) {
  GateTile(p, ring_memory(s), gate_task_of(p, run, task), consumer).logits();
  if (consumer == 0) add_release(run.gate_arrived + task.tile, 1);
}

}  // namespace moeopt::cuda::moe
