// The consumers' last tasks: out from y. Owned here: the one place where router weights are
// applied. Invariant: an output element is the sum over the token's slots, in slot order, the
// shared expert last, of weight times y in float32, by one thread; nothing is added to an output in
// memory.
#pragma once

#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// kPieces times eight columns of a token: out[token][column[i] .. + 7].
template <int kPieces>
__device__ void combine_columns(const Params& p, const Run& run, const int (&token)[kPieces],
                                const int (&column)[kPieces]) {
  const std::int64_t y_stride = std::int64_t{2} * p.hidden;
  float sum[kPieces][8] = {};
  constexpr int kBatch = 8;  // loads in flight, of each piece
#pragma unroll 1
  for (int start = 0; start < p.y_rows; start += kBatch) {
    uint4 rows[kPieces][kBatch];
    float weight[kPieces][kBatch];
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const auto* y = static_cast<const std::byte*>(p.y) +
                      (std::int64_t{1} * token[i] * p.y_rows * p.hidden + column[i]) * 2;
      const std::int32_t* y_slot = run.y_slot + token[i] * p.top_k;
      const float* weights = run.weights + token[i] * p.y_rows;
#pragma unroll
      for (int n = 0; n < kBatch; ++n) {
        const int s = start + n;
        const int from = s < p.top_k ? y_slot[s] : s < p.y_rows ? s : -1;
        // An absent slot adds zero times zero; its weight may be NaN and must not count.
        weight[i][n] = from >= 0 ? weights[s] : 0.0f;
        rows[i][n] =
            from >= 0 ? __ldcg(reinterpret_cast<const uint4*>(y + from * y_stride)) : uint4{};
      }
    }
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int n = 0; n < kBatch; ++n) {
        const std::uint32_t two[4] = {rows[i][n].x, rows[i][n].y, rows[i][n].z, rows[i][n].w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sum[i][2 * j] += weight[i][n] * low_bf16(two[j]);
          sum[i][2 * j + 1] += weight[i][n] * high_bf16(two[j]);
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    uint4 out;
    out.x = pack_bf16(sum[i][0], sum[i][1]);
    out.y = pack_bf16(sum[i][2], sum[i][3]);
    out.z = pack_bf16(sum[i][4], sum[i][5]);
    out.w = pack_bf16(sum[i][6], sum[i][7]);
    *reinterpret_cast<uint4*>(static_cast<std::byte*>(p.out) +
                              2 * (token[i] * p.out_stride + column[i])) = out;
  }
}

// A token without rows here (no local expert, no shared one) waits for nothing and gets zeros.
inline __device__ __noinline__ void combine_task(const Params& p, const Run& run, const Task& task,
                                                 int consumer) {
  const int first = task.tile * run.launch.combine_tokens;
  const int end = min(first + run.launch.combine_tokens, run.launch.tokens);
  if (first + consumer < end) {
    const int token = first + consumer;
    const bool shared = p.shared_intermediate > 0;
    const int routed = run.expected[token] - (shared ? 1 : 0);
    wait_for_count(run.y_arrived + token,
                   static_cast<std::uint32_t>(routed * run.launch.units2 +
                                              (shared ? run.launch.shared_units2 : 0)),
                   "y");
  }
  named_barrier(kConsumerBarrier, kConsumers);
  // Pieces of eight columns; two of a thread's at once.
  const int pieces = p.hidden / 8;
  const int all = (end - first) * pieces;
  int i = consumer;
#pragma unroll 1
  for (; i + kConsumers < all; i += 2 * kConsumers) {
    const int a = i / pieces;
    const int b = (i + kConsumers) / pieces;
    const int token[2] = {first + a, first + b};
    const int column[2] = {(i - a * pieces) * 8, (i + kConsumers - b * pieces) * 8};
    combine_columns<2>(p, run, token, column);
  }
  if (i < all) {
    const int a = i / pieces;
    const int token[1] = {first + a};
    const int column[1] = {(i - a * pieces) * 8};
    combine_columns<1>(p, run, token, column);
  }
}

}  // namespace moeopt::cuda::moe
