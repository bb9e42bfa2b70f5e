// The consumers' last tasks: out from y. Owned here: the one place where router weights are
// applied. Invariant: an output element is the sum over the token's slots, in slot order, the
// shared expert last, of weight times y in float32, by one thread; nothing is added to an output in
// memory.
#pragma once

#include "cuda/moe/lists.cuh"
#include "cuda/moe/rings.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// sum += weight * (eight columns of y).
__device__ __forceinline__ void add_weighted(float (&sum)[8], const uint4& row, float weight) {
  const std::uint32_t two[4] = {row.x, row.y, row.z, row.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    sum[2 * j] += weight * low_bf16(two[j]);
    sum[2 * j + 1] += weight * high_bf16(two[j]);
  }
}
__device__ __forceinline__ uint4 rounded(const float (&sum)[8]) {
  return {pack_bf16(sum[0], sum[1]), pack_bf16(sum[2], sum[3]), pack_bf16(sum[4], sum[5]),
          pack_bf16(sum[6], sum[7])};
}

// kPieces times eight columns of a token: out[token][column[i] .. + 7]. addends: of the task's
// tokens, the first of which is `first`. Not `real`: walks through the code alone.
template <int kPieces>
__device__ void combine_columns(const Params& p, const Addends* addends, int first,
                                const int (&token)[kPieces], const int (&column)[kPieces],
                                bool real) {
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
      const Addends& own = addends[token[i] - first];
#pragma unroll
      for (int n = 0; n < kBatch; ++n) {
        const int s = start + n;
        const int from = real && s < p.y_rows ? own.from[s] : -1;
        // An absent slot adds zero times zero; its weight may be NaN and must not count.
        weight[i][n] = from >= 0 ? own.weight[s] : 0.0f;
        rows[i][n] =
            from >= 0 ? __ldcg(reinterpret_cast<const uint4*>(y + from * y_stride)) : uint4{};
      }
    }
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int n = 0; n < kBatch; ++n) add_weighted(sum[i], rows[i][n], weight[i][n]);
    }
  }
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const uint4 out = rounded(sum[i]);
    if (real) {
      *reinterpret_cast<uint4*>(static_cast<std::byte*>(p.out) +
                                2 * (token[i] * p.out_stride + column[i])) = out;
    }
  }
}

// A warp's token: what its output adds up, lane s slot s and lane k the shared expert. Returns how
// many routed rows of y it waits for (same in all lanes). Given ids are reported where `reports`.
template <typename T>
__device__ int find_addends(const Params& p, SharedState<T>& s, const Run& run, int token,
                            Addends& addends, int lane, bool reports = true) {
  const std::int64_t entry = std::int64_t{1} * token * p.top_k + lane;
  const bool local = local_lists<T>(p);
  int expected = 0;
  if (local && p.ids != nullptr) {
    const Route r = route_token(p, run, token, lane);
    if (lane < p.top_k) {
      addends.from[lane] = r.choice.y_slot;
      addends.weight[lane] = r.chosen.weight;
    }
    expected = r.expected;
    if (reports) report_token(p, r, token, lane);
  } else if (local) {
    Choice choice{-1, -1};
    if (lane < p.top_k) {
      choice = choice_of(p, s, run, entry);
      addends.from[lane] = choice.y_slot;
      if constexpr (T::kFew) {
        addends.weight[lane] = s.local.weight[entry];
      } else {
        addends.weight[lane] =
            __uint_as_float(wait_for_word(p.weight_words + entry, run.tag, "weights"));
      }
    }
    expected = __popc(__ballot_sync(kAllLanes, choice.slot >= 0));
  } else {
    if (lane < p.top_k) {
      addends.from[lane] = p.y_slot[entry];
      addends.weight[lane] = p.weights[std::int64_t{1} * token * p.y_rows + lane];
    }
    expected = p.expected[token];
  }
  if (lane == p.top_k && p.shared_intermediate > 0) {
    addends.from[lane] = lane;
    const std::int64_t row = std::int64_t{1} * token * logits_stride(p.experts_total);
    addends.weight[lane] =
        !local ? p.weights[std::int64_t{1} * token * p.y_rows + lane]
        : p.shared_gate == nullptr
            ? 1.0f
            : sigmoid_of(__uint_as_float(wait_for_word(p.logit_words + row + p.experts_total,
                                                       run.tag, "the shared expert's logit")));
  }
  return expected;
}

// What a token's y_arrived counts up to, with that many routed rows.
__device__ inline std::uint32_t y_arrivals(const Params& p, const Run& run, int expected) {
  return static_cast<std::uint32_t>(expected * run.launch.units2 +
                                    (p.shared_intermediate > 0 ? run.launch.shared_units2 : 0));
}

// With few tasks a block comes to its combination long before y does: it walks through the code
// once without reading or writing, so that the code is here when y is. Between other kernels no
// cache holds it.
__device__ inline bool waits_long_for_y(const Params& p, const Run& run) {
  return run.launch.tokens * p.y_rows * run.launch.units2 <= 2 * static_cast<int>(gridDim.x);
}

// A token without rows here (no local expert, no shared one) waits for nothing and gets zeros.
template <typename T>
__device__ __noinline__ void combine_task(const Params& p, SharedState<T>& s, const Run& run,
                                          const Task& task, int consumer) {
  const int first = task.tile * run.launch.combine_tokens;
  const int end = min(first + run.launch.combine_tokens, run.launch.tokens);
  const int own = first + consumer / 32;
  int expected = 0;
  if (own < end) {
    Addends& addends = s.addends[own - first];
    expected = find_addends(p, s, run, own, addends, consumer % 32, task.unit == 0);
  }
  const auto wait_for_y = [&] {
    if (own < end && consumer % 32 == 0) {
      wait_for_count(run.y_arrived + own, y_arrivals(p, run, expected), "y");
    }
  };
  // Pieces of eight columns; two of a thread's at once.
  const int pieces = p.hidden / 8;
  if (run.launch.combine_tokens == kConsumerWarps) {  // a warp a token; nobody waits for another
    wait_for_y();
    __syncwarp();
    if (own < end) {
      int i = consumer % 32;
#pragma unroll 1
      for (; i + 64 < pieces; i += 96) {
        combine_columns<3>(p, s.addends, first, {own, own, own},
                           {i * 8, (i + 32) * 8, (i + 64) * 8}, true);
      }
#pragma unroll 1
      for (; i < pieces; i += 32) combine_columns<1>(p, s.addends, first, {own}, {i * 8}, true);
    }
    __syncwarp();
    return;
  }
#pragma unroll 1
  for (int pass = waits_long_for_y(p, run) ? 0 : 1; pass < 2; ++pass) {
    const bool real = pass == 1;
    if (real) wait_for_y();
    named_barrier(kConsumerBarrier, kConsumers);
    const int part = run.launch.combine_columns / 8;
    const int begin = task.unit * part;
    const int all = end - first > 1 ? (end - first) * pieces : min(begin + part, pieces);
    int i = begin + consumer;
#pragma unroll 1
    for (; i + kConsumers < all; i += 2 * kConsumers) {
      const int a = i / pieces;
      const int b = (i + kConsumers) / pieces;
      const int token[2] = {first + a, first + b};
      const int column[2] = {(i - a * pieces) * 8, (i + kConsumers - b * pieces) * 8};
      combine_columns<2>(p, s.addends, first, token, column, real);
    }
    if (i < all) {
      const int a = i / pieces;
      const int token[1] = {first + a};
      const int column[1] = {(i - a * pieces) * 8};
      combine_columns<1>(p, s.addends, first, token, column, real);
    }
    named_barrier(kConsumerBarrier, kConsumers);  // before the next task's addends
  }
}

// With images: a token's rows of y come into the ring's weight stages by bulk copies, as many of
// their columns at a time as fit. A multiple of 256, or all.
template <typename T>
__device__ int staged_columns(const Params& p) {
  return min(p.hidden, T::kWeightStageBytes / 2 / p.y_rows / 256 * 256);
}
template <typename T>
__device__ __forceinline__ void combine_staged(const Params& p, SharedState<T>& s, const Run& run,
                                               const Task& task, Ring<T>& ring, int consumer) {
  const int first = task.tile * run.launch.combine_tokens;
  const int end = min(first + run.launch.combine_tokens, run.launch.tokens);
  const int own = consumer / 32;
  if (first + own < end) {
    find_addends(p, s, run, first + own, s.addends[own], consumer % 32);
  }
  named_barrier(kConsumerBarrier, kConsumers);
  const int width = staged_columns<T>(p);
#pragma unroll 1
  for (int token = first; token < end; ++token) {
    const Addends& addends = s.addends[token - first];
#pragma unroll 1
    for (int column = 0; column < p.hidden; column += width) {
      ring.wait();
      const int pieces = min(width, p.hidden - column) / 8;
#pragma unroll 1
      for (int i = consumer; i < pieces; i += kConsumers) {
        const std::uint32_t at = shared_address(ring.weights()) + i * 16;
        float sum[8] = {};
#pragma unroll 4
        for (int slot = 0; slot < p.y_rows; ++slot) {
          const int from = addends.from[slot];
          const uint4 row = from >= 0 ? load_shared_16(at + from * pieces * 16) : uint4{};
          add_weighted(sum, row, from >= 0 ? addends.weight[slot] : 0.0f);
        }
        *reinterpret_cast<uint4*>(static_cast<std::byte*>(p.out) +
                                  2 * (token * p.out_stride + column + i * 8)) = rounded(sum);
      }
      ring.free();
      ring.advance();
    }
  }
  named_barrier(kConsumerBarrier, kConsumers);  // before the next task's addends
}

}  // namespace moeopt::cuda::moe
