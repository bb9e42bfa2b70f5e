// With few tokens, the combination: y comes as words, and a task is a part of a token's columns, so
// that several blocks look for it. Owned here: the sums of these tasks. Invariant: combine.cuh's:
// slot by slot, by one thread.
#pragma once

#include "cuda/moe/combine.cuh"

namespace moeopt::cuda::moe {

// Columns column and column + 1 of a token, from words. Not `real`: walks through the code alone.
__device__ __forceinline__ void combine_words(const Params& p, const Run& run,
                                              const Addends& addends, int token, int column,
                                              bool real) {
  constexpr int kBatch = 8;  // rows looked at together
  const Watchdog watchdog("y");
  const Word* y = p.y_words + (std::int64_t{1} * token * p.y_rows * p.hidden + column) / 2;
  float low = 0;
  float high = 0;
#pragma unroll 1
  for (int start = 0; start < p.y_rows; start += kBatch) {
    Word words[kBatch];
    float weight[kBatch];
    bool there = false;
    while (!there) {
      there = true;
#pragma unroll
      for (int n = 0; n < kBatch; ++n) {
        const int s = start + n;
        const int from = real && s < p.y_rows ? addends.from[s] : -1;
        // An absent slot adds zero times zero; its weight may be NaN and must not count.
        weight[n] = from >= 0 ? addends.weight[s] : 0.0f;
        words[n] = from >= 0 ? load_word(y + std::int64_t{1} * from * p.hidden / 2)
                             : static_cast<Word>(run.tag) << 32;
      }
#pragma unroll
      for (int n = 0; n < kBatch; ++n) there &= has_tag(words[n], run.tag);
      if (!there) watchdog.look();
    }
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      const auto two = static_cast<std::uint32_t>(words[n]);
      low += weight[n] * low_bf16(two);
      high += weight[n] * high_bf16(two);
    }
  }
  if (!real) return;
  *reinterpret_cast<std::uint32_t*>(static_cast<std::byte*>(p.out) +
                                    2 * (token * p.out_stride + column)) = pack_bf16(low, high);
}

// With few tokens: a part of a token's columns, two a thread, so that all rows of y that a thread
// waits for are looked at in one trip.
template <typename T>
__device__ __noinline__ void combine_few(const Params& p, SharedState<T>& s, const Run& run,
                                         const Task& task, int consumer) {
  Addends& addends = s.addends[0];
  if (consumer < 32) find_addends(p, s, run, task.tile, addends, consumer, task.unit == 0);
  named_barrier(kConsumerBarrier, kConsumers);
  const int column = task.unit * kCombineColumns + 2 * consumer;
  if (column < p.hidden) {
#pragma unroll 1
    for (int pass = waits_long_for_y(p, run) ? 0 : 1; pass < 2; ++pass) {
      combine_words(p, run, addends, task.tile, column, pass == 1);
    }
  }
  named_barrier(kConsumerBarrier, kConsumers);  // before the next task's addends
}

}  // namespace moeopt::cuda::moe
