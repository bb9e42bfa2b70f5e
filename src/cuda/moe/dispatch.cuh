// The consumers' dispatch: top-k of the tokens, and the lists of experts' rows in memory that all
// blocks read (without Config::local_lists). Owned here: an entry's place in its expert's list.
// Invariant: a launch's lists hold each routed entry once, in any order.
#pragma once

#include "cuda/moe/lists.cuh"
#include "cuda/moe/route.cuh"
#include "cuda/moe/route_teams.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// The list that a lane's entry (token * k + slot) joins; -1: none.
__device__ inline void join_list(const Params& p, const Run& run, int slot, int entry) {
  if (slot < 0) return;
  const std::uint32_t rank = atomicAdd(run.row_counts + slot, 1u);
  p.lists[std::int64_t{1} * slot * p.max_tokens + rank] = entry;
}

// The lists that a block's entries join, kCount a thread: counted in shared memory first, so that a
// list is asked for a place once, not once an entry. counts: as many as slots, in shared memory.
template <int kCount>
class Join {
 public:
  __device__ __forceinline__ Join(const Params& p, const Run& run, int* counts, int consumer)
      : p_(p), run_(run), counts_(counts), consumer_(consumer) {
    for (int i = consumer; i < p.slots; i += kConsumers) counts[i] = 0;
    named_barrier(kConsumerBarrier, kConsumers);
  }
  // Entry `entry` (token * k + slot) as the thread's i-th; -1: none.
  __device__ __forceinline__ void add(int i, int slot, int entry) {
    slot_[i] = slot;
    entry_[i] = entry;
    rank_[i] = slot >= 0 ? atomicAdd(counts_ + slot, 1) : 0;
  }
  __device__ __forceinline__ void finish() {
    named_barrier(kConsumerBarrier, kConsumers);
    for (int i = consumer_; i < p_.slots; i += kConsumers) {
      const auto count = static_cast<std::uint32_t>(counts_[i]);
      if (count > 0) counts_[i] = static_cast<int>(atomicAdd(run_.row_counts + i, count));
    }
    named_barrier(kConsumerBarrier, kConsumers);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (slot_[i] < 0) continue;
      std::int32_t* list = p_.lists + std::int64_t{1} * slot_[i] * p_.max_tokens;
      list[counts_[slot_[i]] + rank_[i]] = entry_[i];
    }
  }

 private:
  const Params& p_;
  const Run& run_;
  int* counts_;
  int consumer_;
  int slot_[kCount];
  int entry_[kCount];
  int rank_[kCount];
};

// Top-k of a warp's tokens, kFours times four of them.
template <int kFours>
__device__ __forceinline__ void dispatch_by_teams(const Params& p, const Run& run, int* counts,
                                                  int first, int end, int consumer) {
  const int lane = consumer % 32;
  Join<2 * kFours> join(p, run, counts, consumer);
#pragma unroll
  for (int f = 0; f < kFours; ++f) {
    const int token = first + f * kTeams + lane / kTeam;
    const int2 slots = dispatch_teams(p, token < end ? token : -1, lane);
    const int entry = token * p.top_k + lane % kTeam;
    join.add(2 * f, slots.x, entry);
    join.add(2 * f + 1, slots.y, entry + kTeam);
  }
  join.finish();
}

// A warp's tokens whose ids are given: a lane an entry, as many tokens at a time as fit a warp.
__device__ __forceinline__ void dispatch_given(const Params& p, const Run& run, int* counts,
                                               int first, int end, int consumer) {
  constexpr int kMost = kMostTokens / kConsumerWarps * kMaxTopK / 32;  // times a warp
  const int lane = consumer % 32;
  const int at_once = 32 / p.top_k;  // tokens
  const int slot = lane % p.top_k;
  const std::uint32_t own = ((1u << p.top_k) - 1) << (lane - slot);  // lanes of the token
  Join<kMost> join(p, run, counts, consumer);
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    const int token = first + i * at_once + lane / p.top_k;
    const bool valid = lane < at_once * p.top_k && token < end;
    const std::int64_t entry = std::int64_t{1} * token * p.top_k + slot;
    const Choice choice = given_choice(p, token, slot, valid, lane);
    const float weight = valid ? __ldg(p.given_weights + entry) : 0.0f;
    const std::uint32_t here = __ballot_sync(kAllLanes, choice.slot >= 0) & own;
    const std::uint32_t nan = __ballot_sync(kAllLanes, isnan(weight)) & own;
    if (valid) {
      p.y_slot[entry] = choice.y_slot;
      p.weights[std::int64_t{1} * token * p.y_rows + slot] = weight;
      if (p.out_ids != nullptr) p.out_ids[entry] = __ldg(p.ids + entry);
      if (p.out_weights != nullptr) p.out_weights[entry] = weight;
      if (slot == 0) finish_token(p, token, __popc(here));
      if (slot == 0 && nan != 0) count_nan_token(p);
    }
    join.add(i, choice.slot, static_cast<int>(entry));
  }
  join.finish();
}

// Top-k of up to kMostTokens tokens, those of a warp one after the other, or several at a time.
// counts: Join's.
inline __device__ __noinline__ void dispatch_task(const Params& p, const Run& run, int* counts,
                                                  const Task& task, int consumer) {
  // Divides gate_tokens: a warp's tokens are of one gate tile.
  static_assert(kMostTokens / kConsumerWarps <= 8);
  const int lane = consumer % 32;
  const int each = run.launch.task_tokens / kConsumerWarps;
  const int first = task.tile * run.launch.task_tokens + consumer / 32 * each;
  const int end = min(first + each, run.launch.tokens);
  // Where every block has one task at most, this one comes here long before the logits do.
  if (p.ids == nullptr && run.launch.unrouted() <= static_cast<int>(gridDim.x)) {
    walk_through_choice(p, consumer / 32, lane);
  }
  if (first < end && run.launch.gate_tiles > 0 && !p.local_lists) {
    if (lane == 0) {
      wait_for_count(run.gate_arrived + first / p.gate_tokens,
                     static_cast<std::uint32_t>(run.launch.gate_units), "router logits");
    }
    __syncwarp();
  }
  if (each > 1 && p.ids != nullptr) {
    dispatch_given(p, run, counts, first, end, consumer);
  } else if (each > kTeams && teams_fit(p)) {
    dispatch_by_teams<2>(p, run, counts, first, end, consumer);
  } else if (each > 1 && teams_fit(p)) {
    dispatch_by_teams<1>(p, run, counts, first, end, consumer);
  } else {
#pragma unroll 1
    for (int token = first; token < end; ++token) {
      const int slot = dispatch_token(p, run, token, lane);
      if (!p.local_lists) join_list(p, run, slot, token * p.top_k + lane);
    }
  }
  if (p.local_lists) return;
  named_barrier(kConsumerBarrier, kConsumers);
  if (consumer == 0) add_release(&run.set->routed, 1);
}

}  // namespace moeopt::cuda::moe
