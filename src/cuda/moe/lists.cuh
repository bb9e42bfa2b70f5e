// With Config::local_lists: from the choices of all tokens to the rows of each expert, in every
// block for itself. Owned here: the order of an expert's rows, by token. Invariant: the same lists
// in every block of a launch, since h is exchanged by position in them.
#pragma once

#include "cuda/moe/route.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// Slot `slot` of a token whose choices are given by the caller; the lanes of a token's slots are
// neighbours, and all call.
__device__ inline Choice given_choice(const Params& p, int token, int slot, bool valid, int lane) {
  int expert = -1;
  if (valid) expert = slot_of_expert(p, __ldg(p.ids + std::int64_t{1} * token * p.top_k + slot));
  const std::uint32_t same =
      __match_any_sync(kAllLanes, expert < 0 ? -1 - lane : token * kMaxSlots + expert);
  const int leader = __ffs(static_cast<int>(same)) - 1;
  if (expert < 0) return {-1, -1};
  return {leader == lane ? expert : -1, slot - (lane - leader)};
}

// A routed entry, once its token's choices are known to this block.
template <typename T>
__device__ Choice choice_of(const Params& p, const SharedState<T>& s, const Run& run,
                            std::int64_t entry) {
  return Choice::unpacked(p.route_everywhere
                              ? s.local.choice[entry]
                              : wait_for_word(p.choice_words + entry, run.tag, "choices"));
}

// Calls body(entry, expert slot or -1, rank among the warp's equals before it in this step, how
// many equals the step has, whether this is the first of them) for the entries of a warp's share of
// the tokens, in order; all lanes call.
template <typename T, typename Body>
__device__ void for_each_entry(const Params& p, const SharedState<T>& s, const Run& run, int warp,
                               int lane, Body body) {
  const int at_once = 32 / p.top_k;  // tokens
  const int steps = ceil_div(run.launch.tokens, at_once);
  const int share = ceil_div(steps, kConsumerWarps);
  const int of_step = lane / p.top_k;
  const int slot = lane - of_step * p.top_k;
#pragma unroll 1
  for (int step = warp * share; step < min(warp * share + share, steps); ++step) {
    const int token = step * at_once + of_step;
    const int entry = token * p.top_k + slot;
    const bool valid = of_step < at_once && token < run.launch.tokens;
    Choice choice{-1, -1};
    if (p.ids != nullptr) {
      choice = given_choice(p, token, slot, valid, lane);
    } else if (valid) {
      choice = choice_of(p, s, run, entry);
    }
    const std::uint32_t same = __match_any_sync(kAllLanes, choice.slot);
    const std::uint32_t before = same & ((1u << lane) - 1);
    body(entry, choice.slot, __popc(before), __popc(same), before == 0);
  }
}

template <typename T>
__device__ __noinline__ void list_task(const Params& p, SharedState<T>& s, const Run& run,
                                       int consumer) {
  const int warp = consumer / 32;
  const int lane = consumer % 32;
  if (p.route_everywhere && p.ids == nullptr) {
    static_assert(kRouteEverywhereTokens <= kConsumerWarps);
    if (warp < run.launch.tokens) route_token_here(p, s.local, run, s.chosen[warp], warp, lane);
    named_barrier(kConsumerBarrier, kConsumers);
  }
  // Each warp counts its share of the entries, then knows where its first one of an expert goes.
  std::uint16_t* places = s.places[warp];
  for (int slot = lane; slot < p.slots; slot += 32) places[slot] = 0;
  __syncwarp();
  for_each_entry(p, s, run, warp, lane, [&](int, int slot, int, int equals, bool first) {
    if (slot >= 0 && first) places[slot] = static_cast<std::uint16_t>(places[slot] + equals);
    __syncwarp();
  });
  named_barrier(kConsumerBarrier, kConsumers);
  for (int slot = consumer; slot < p.slots; slot += kConsumers) {
    int rows = 0;
    for (int w = 0; w < kConsumerWarps; ++w) {
      const int own = s.places[w][slot];
      s.places[w][slot] = static_cast<std::uint16_t>(rows);
      rows += own;
    }
    s.tile_start[slot] = rows;  // the producer turns these into starts
  }
  named_barrier(kConsumerBarrier, kConsumers);
  mbarrier_arrive(s.counted);
  mbarrier_wait(s.planned, 0, "the schedule");
  for_each_entry(p, s, run, warp, lane, [&](int entry, int slot, int rank, int equals, bool first) {
    if (slot >= 0) {
      s.list[s.row_start[slot] + places[slot] + rank] = static_cast<std::uint16_t>(entry);
    }
    __syncwarp();
    if (slot >= 0 && first) places[slot] = static_cast<std::uint16_t>(places[slot] + equals);
    __syncwarp();
  });
  mbarrier_arrive(s.listed);
}

}  // namespace moeopt::cuda::moe
