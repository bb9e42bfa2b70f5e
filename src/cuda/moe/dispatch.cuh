// The consumers' dispatch: top-k of the tokens, and the lists of experts' rows in memory that all
// blocks read (without Config::local_lists). Owned here: an entry's place in its expert's list.
// Invariant: a launch's lists hold each routed entry once, in any order.
#pragma once

#include "cuda/moe/route.cuh"
#include "cuda/moe/route_teams.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// The lists that a lane's choices join, each with its entry (token * k + slot); -1: none. All are
// asked for before the first is waited for: the trip is long.
template <int kCount>
__device__ void join_lists(const Params& p, const Run& run, const std::int32_t (&slot)[kCount],
                           const std::int32_t (&entry)[kCount]) {
  std::uint32_t rank[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    rank[i] = slot[i] >= 0 ? atomicAdd(run.row_counts + slot[i], 1u) : 0;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (slot[i] >= 0) p.lists[std::int64_t{1} * slot[i] * p.max_tokens + rank[i]] = entry[i];
  }
}

// Top-k of up to kMostTokens tokens, those of a warp one after the other, or four at a time.
inline __device__ __noinline__ void dispatch_task(const Params& p, const Run& run, Chosen* chosen,
                                                  const Task& task, int consumer) {
  // Divides gate_tokens: a warp's tokens are of one gate tile.
  static_assert(kMostTokens / kConsumerWarps <= 8);
  const int lane = consumer % 32;
  const int each = run.launch.task_tokens / kConsumerWarps;
  const int first = task.tile * run.launch.task_tokens + consumer / 32 * each;
  const int end = min(first + each, run.launch.tokens);
  if (first < end && run.launch.gate_tiles > 0 && !p.local_lists) {
    if (lane == 0) {
      wait_for_count(run.gate_arrived + first / p.gate_tokens,
                     static_cast<std::uint32_t>(run.launch.gate_units), "router logits");
    }
    __syncwarp();
  }
  if (each > 1 && teams_fit(p)) {
#pragma unroll 1
    for (int four = first; four < end; four += kTeams) {
      const int token = four + lane / kTeam < end ? four + lane / kTeam : -1;
      const int2 slots = dispatch_teams(p, token, lane);
      const int entry = token * p.top_k + lane % kTeam;
      join_lists<2>(p, run, {slots.x, slots.y}, {entry, entry + kTeam});
    }
  } else {
#pragma unroll 1
    for (int token = first; token < end; ++token) {
      const int slot = dispatch_token(p, run, chosen + consumer / 32 * kMaxTopK, token, lane);
      if (!p.local_lists) join_lists<1>(p, run, {slot}, {token * p.top_k + lane});
    }
  }
  if (p.local_lists) return;
  named_barrier(kConsumerBarrier, kConsumers);
  if (consumer == 0) add_release(&run.set->routed, 1);
}

}  // namespace moeopt::cuda::moe
