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

// The producer makes the lists itself: of given ids, or when the tokens have been routed for this
// block.
template <typename T>
__device__ bool producer_lists(const Params& p, const Run& run) {
  return local_lists<T>(p) && (p.ids != nullptr || T::kFew) &&
         run.launch.tokens * p.top_k <= kProducerEntries;
}

// Few tokens: the publisher, which has nothing to publish there, routes them when it is told of the
// list: where the consumers have a shared expert to multiply meanwhile, or one token alone.
template <typename T>
__device__ bool publisher_routes(const Params& p) {
  return T::kFew && p.ids == nullptr && p.max_tokens * p.top_k <= kProducerEntries &&
         (p.shared_intermediate > 0 || p.max_tokens == 1);
}

// A routed entry, once its token's choices are known to this block.
template <typename T>
__device__ Choice choice_of(const Params& p, const SharedState<T>& s, const Run& run,
                            std::int64_t entry) {
  if constexpr (T::kFew) return Choice::unpacked(s.local.choice[entry]);
  return Choice::unpacked(wait_for_word(p.choice_words + entry, run.tag, "choices"));
}

// A warp counts the entries of steps first .. end - 1 into places[expert slot], which holds how
// many came before; with `placing`, writes each into its expert's list.
template <typename T>
__device__ void count_entries(const Params& p, SharedState<T>& s, const Run& run, int first,
                              int end, std::uint16_t* places, bool placing, int lane) {
  const int at_once = 32 / p.top_k;  // tokens
  const int of_step = lane / p.top_k;
  const int slot = lane - of_step * p.top_k;
#pragma unroll 1
  for (int step = first; step < end; ++step) {
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
    if (placing && choice.slot >= 0) {
      s.list[s.row_start[choice.slot] + places[choice.slot] + __popc(before)] =
          static_cast<std::uint16_t>(entry);
    }
    __syncwarp();
    if (choice.slot >= 0 && before == 0) {
      places[choice.slot] = static_cast<std::uint16_t>(places[choice.slot] + __popc(same));
    }
    __syncwarp();
  }
}

template <typename T>
__device__ __noinline__ void list_task(const Params& p, SharedState<T>& s, const Run& run,
                                       int consumer) {
  const int warp = consumer / 32;
  const int lane = consumer % 32;
  if (T::kFew && p.ids == nullptr) {
    static_assert(kFewTokens <= kConsumerWarps);
    const bool own = warp < run.launch.tokens;
    // A block without a gate task has nothing else to do either.
    if (!own || run.ticket >= static_cast<std::uint32_t>(run.launch.unrouted())) {
      walk_through_choice(p, warp, lane);
    }
    if (own) route_token_here(p, s.local, run, warp, lane);
    named_barrier(kConsumerBarrier, kConsumers);
  }
  if (producer_lists<T>(p, run)) {
    mbarrier_arrive(s.counted);
    return;
  }
  // Each warp counts its share of the entries, then knows where its first one of an expert goes.
  std::uint16_t* places = s.places[warp];
  for (int slot = lane; slot < p.slots; slot += 32) places[slot] = 0;
  __syncwarp();
  const int steps = ceil_div(run.launch.tokens, 32 / p.top_k);
  const int share = ceil_div(steps, kConsumerWarps);
  const int first = min(warp * share, steps);
  // One code for both passes: it is fetched once.
#pragma unroll 1
  for (int pass = 0; pass < 2; ++pass) {
    count_entries(p, s, run, first, min(first + share, steps), places, pass == 1, lane);
    if (pass == 1) break;
    named_barrier(kConsumerBarrier, kConsumers);
    for (int slot = consumer; slot < p.slots; slot += kConsumers) {
      int rows = 0;
#pragma unroll 1
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
  }
  mbarrier_arrive(s.listed);
}

}  // namespace moeopt::cuda::moe
