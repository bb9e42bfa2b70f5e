// From logits to experts: top-k of a token by one warp, and what becomes of its slots. The rules
// are those of cpu/reference/router.h. Invariant: k distinct experts, ties to the lower id, in
// descending order of the value they were selected by; a NaN logit counts as -inf and is reported;
// a token's routes depend on its logits alone.
#pragma once

#include "cuda/moe/rounding.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

inline constexpr std::uint32_t kAllLanes = 0xffffffffu;

// Unsigned order of the result is the order of the floats; never 0, which marks what may not be
// taken.
__device__ inline std::uint32_t ordered_key(float value) {
  const std::uint32_t bits = __float_as_uint(value + 0.0f);  // -0 is 0
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float key_value(std::uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}
__device__ inline float nan_to_lowest(float value) {
  return isnan(value) ? -INFINITY : value;
}
__device__ inline float warp_sum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

// The experts are spread over the lanes in runs: expert kPerLane * lane + i is element i of the
// lane, so that the lowest lane of equals has the lowest id.

// Leaves 0 in the keys of all but the best groups.
template <int kPerLane>
__device__ void keep_best_groups(const Params& p, std::uint32_t (&key)[kPerLane], int lane) {
  const int size = p.experts_total / p.groups;
  std::uint32_t group_key = 0;  // of group `lane`
#pragma unroll 1
  for (int g = 0; g < p.groups; ++g) {
    std::uint32_t best = 0;
    std::uint32_t second = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if ((kPerLane * lane + i) / size != g) continue;
      second = max(second, min(best, key[i]));
      best = max(best, key[i]);
    }
    const std::uint32_t top = __reduce_max_sync(kAllLanes, best);
    const int owner = __ffs(static_cast<int>(__ballot_sync(kAllLanes, best == top))) - 1;
    const std::uint32_t next = __reduce_max_sync(kAllLanes, lane == owner ? second : best);
    float value = key_value(top);
    if (p.group_score == MOEOPT_GROUP_TOP2 && size > 1)
      value = nan_to_lowest(value + key_value(next));
    if (lane == g) group_key = ordered_key(value);
  }
  std::uint32_t kept = 0;
#pragma unroll 1
  for (int n = 0; n < p.top_k_groups; ++n) {
    const std::uint32_t top = __reduce_max_sync(kAllLanes, group_key);
    const int best = __ffs(static_cast<int>(__ballot_sync(kAllLanes, group_key == top))) - 1;
    kept |= 1u << best;
    if (lane == best) group_key = 0;
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = kPerLane * lane + i;
    if (expert < p.experts_total && (kept >> (expert / size) & 1u) == 0) key[i] = 0;
  }
}

// Logits first .. first + kPerLane - 1 of a token, -inf beyond the last.
template <int kPerLane>
__device__ __forceinline__ void load_logits(const Params& p, std::int64_t token, std::uint32_t tag,
                                            float (&logits)[kPerLane], int first) {
  const std::int64_t row = token * logits_stride(p.experts_total) + first;
  if (p.local_lists) {
    // All words of a look at once: one after the other, each that is late would cost a trip.
    const Watchdog watchdog("router logits");
    bool there = false;
    while (!there) {
      there = true;
      Word words[kPerLane];
#pragma unroll
      for (int i = 0; i < kPerLane; i += 2) {  // rows of words are padded to 32 bytes
        words[i] = words[i + 1] = 0;
        if (first + i < p.experts_total)
          load_words(p.logit_words + row + i, words[i], words[i + 1]);
      }
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        const bool valid = first + i < p.experts_total;
        logits[i] = valid ? __uint_as_float(static_cast<std::uint32_t>(words[i])) : -INFINITY;
        there &= !valid || has_tag(words[i], tag);
      }
      if (!there) watchdog.look();
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kPerLane; i += 4) {  // rows of logits are padded to 16 bytes
    const float4 four = first + i < p.experts_total
                            ? __ldcg(reinterpret_cast<const float4*>(p.logits + row + i))
                            : float4{};
    const float v[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) logits[i + j] = first + i + j < p.experts_total ? v[j] : -INFINITY;
  }
}

// A chosen expert's weight from its score and the sum of all chosen ones'. The quotient is right to
// the last bit: times y, a share of exactly 1 or 1/2 must not turn ties of the rounding over.
__device__ inline float final_weight(const Params& p, float score, float sum) {
  if (p.renormalise == 0) return score * p.scale;
  const float all = sum + p.renormalise_epsilon;
  return quotient(score, all, inverse_of(all)) * p.scale;
}

// Sorts four keys, the largest first, of equals the one that was first; order: which the n-th was,
// in bits 2n and 2n + 1.
__device__ __forceinline__ std::uint32_t sort_four(std::uint32_t* key) {
  std::uint32_t at[4] = {0, 1, 2, 3};
#pragma unroll
  for (int step = 0; step < 4; ++step) {  // neighbours alone change places: equals keep theirs
#pragma unroll
    for (int n = step % 2; n + 1 < 4; n += 2) {
      const bool swap = key[n + 1] > key[n];
      const std::uint32_t low = min(key[n], key[n + 1]);
      key[n] = max(key[n], key[n + 1]);
      key[n + 1] = low;
      const std::uint32_t first = at[n];
      at[n] = swap ? at[n + 1] : first;
      at[n + 1] = swap ? first : at[n + 1];
    }
  }
  return at[0] | at[1] << 2 | at[2] << 4 | at[3] << 6;
}

// The ids with the p.top_k largest keys, lane s the one of slot s (else -1).
template <int kPerLane>
__device__ __forceinline__ int largest_keys(const Params& p, std::uint32_t (&key)[kPerLane],
                                            int lane) {
  constexpr int kFours = kPerLane / 4;
  std::uint32_t order[kFours];
#pragma unroll
  for (int q = 0; q < kFours; ++q) order[q] = sort_four(key + 4 * q);
  const std::uint32_t lower_lanes = (1u << lane) - 1;
  const int top_k = p.top_k;
  int id = -1;
  int last = -1;  // taken in the round before: looked at while this one's largest is on its way
#pragma unroll 1
  for (int slot = 0; slot < top_k; ++slot) {
    std::uint32_t best = key[0];
    int four = 0;
#pragma unroll
    for (int q = 1; q < kFours; ++q) {
      four = key[4 * q] > best ? q : four;
      best = max(best, key[4 * q]);
    }
    const bool equal = best == __reduce_max_sync(kAllLanes, best);
    if (lane == slot - 1) id = last;
    const std::uint32_t equals = __ballot_sync(kAllLanes, equal);
    const bool taken = equal && (equals & lower_lanes) == 0;
    int own = 0;
#pragma unroll
    for (int q = 0; q < kFours; ++q) {
      if (q != four) continue;
      own = kPerLane * lane + 4 * q + static_cast<int>(order[q] & 3);
      if (!taken) continue;
      order[q] >>= 2;
      key[4 * q] = key[4 * q + 1];
      key[4 * q + 1] = key[4 * q + 2];
      key[4 * q + 2] = key[4 * q + 3];
      key[4 * q + 3] = 0;
    }
    last = __shfl_sync(kAllLanes, own, __ffs(static_cast<int>(equals)) - 1);
  }
  return lane == top_k - 1 ? last : id;
}

// Of a lane's experts.
template <int kPerLane>
struct Scores {
  float score[kPerLane];
  std::uint32_t nans;  // bit i: logit i is NaN
  bool has_nan;        // one of the token's is (same in all lanes)
};

// Not `real`: walks through the code, with logits of 0.
template <int kPerLane>
__device__ __forceinline__ Scores<kPerLane> score_experts(const Params& p, int token,
                                                          std::uint32_t tag, int lane, bool real) {
  const int first = kPerLane * lane;
  Scores<kPerLane> s{};
  auto& score = s.score;
  if (real) load_logits(p, token, tag, score, first);
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    s.nans |= isnan(score[i]) ? 1u << i : 0;
    score[i] = nan_to_lowest(score[i]);
    largest = fmaxf(largest, score[i]);
  }
  s.has_nan = __any_sync(kAllLanes, s.nans != 0) != 0;
  if (p.score == MOEOPT_SOFTMAX) {
    largest = key_value(__reduce_max_sync(kAllLanes, ordered_key(largest)));
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      score[i] = __expf(score[i] - largest);  // 0 beyond the last, unless the sum is NaN anyway
      sum += score[i];
    }
    sum = warp_sum(sum);
    s.has_nan |= isnan(sum);  // an infinite logit
    const float scale = __fdividef(1.0f, sum);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) score[i] *= scale;
  } else {
    const int own = min(max(p.experts_total - first, 0), kPerLane);
    const bool any_number = __any_sync(kAllLanes, __popc(s.nans) < own) != 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) score[i] = any_number ? sigmoid_of(score[i]) : NAN;
  }
  return s;
}

// Lane s < k: slot s.
template <int kPerLane>
__device__ __forceinline__ Chosen take_best(const Params& p, const Scores<kPerLane>& s, int lane) {
  const int first = kPerLane * lane;
  float selected[kPerLane];  // what experts are chosen by
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) selected[i] = s.score[i];
  if (p.correction_bias != nullptr) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (first + i < p.experts_total) selected[i] += __ldg(p.correction_bias + first + i);
    }
  }
  std::uint32_t key[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const float value = (s.nans >> i & 1) != 0 ? -INFINITY : nan_to_lowest(selected[i]);
    key[i] = first + i < p.experts_total ? ordered_key(value) : 0;
  }
  if (p.groups > 1) keep_best_groups(p, key, lane);
  const int id = largest_keys(p, key, lane);

  float weight = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const float value = __shfl_sync(kAllLanes, s.score[i], max(id, 0) / kPerLane);
    if (id >= 0 && id % kPerLane == i) weight = value;
  }
  float sum = 0;
#pragma unroll
  for (int slot = 0; slot < kMaxTopK; ++slot) sum += __shfl_sync(kAllLanes, weight, slot);
  return {id, final_weight(p, weight, sum)};
}

struct Choices {
  Chosen own;  // lane s < k: slot s
  bool has_nan;
};

// Of the warp's token. A launch runs this once or twice a block, and its code comes from memory, a
// tenth of a microsecond a line: warps that wait anyway walk through it before, without a token, a
// half each.
enum class Walk : std::int32_t { kNone, kScores, kChoice };
template <int kPerLane>
__device__ __noinline__ Choices choose_experts(const Params& p, int token, std::uint32_t tag,
                                               int lane, Walk walk) {
  Scores<kPerLane> scores{};
  if (walk != Walk::kChoice) {
    scores = score_experts<kPerLane>(p, token, tag, lane, walk == Walk::kNone);
  }
  if (walk == Walk::kScores) return {};
  return {take_best(p, scores, lane), scores.has_nan};
}
__device__ __forceinline__ Choices choose_experts(const Params& p, int token, std::uint32_t tag,
                                                  int lane, Walk walk = Walk::kNone) {
  return p.experts_total <= 128 ? choose_experts<4>(p, token, tag, lane, walk)
                                : choose_experts<16>(p, token, tag, lane, walk);
}
// By a warp that has nothing else to do.
__device__ inline void walk_through_choice(const Params& p, int warp, int lane) {
  choose_experts(p, 0, 0, lane, warp % 2 == 0 ? Walk::kChoice : Walk::kScores);
}

// The packed slot of an expert, -1: not here.
__device__ inline int slot_of_expert(const Params& p, int id) {
  if (id < 0 || id >= p.experts_total) return -1;
  const int slot = p.expert_map != nullptr ? __ldg(p.expert_map + id) : id;
  return slot < p.slots ? slot : -1;
}

// What a token's slots become; lane s < k holds slot s.
struct Route {
  Chosen chosen;
  Choice choice;
  int expected;  // routed y rows that will arrive (same in all lanes)
  bool has_nan;
};

__device__ __forceinline__ Route route_token(const Params& p, const Run& run, int token, int lane) {
  Route r{};
  r.chosen.id = -1;
  if (p.ids != nullptr) {
    if (lane < p.top_k) {
      r.chosen.id = __ldg(p.ids + std::int64_t{1} * token * p.top_k + lane);
      r.chosen.weight = __ldg(p.given_weights + std::int64_t{1} * token * p.top_k + lane);
    }
    r.has_nan = __any_sync(kAllLanes, isnan(r.chosen.weight)) != 0;
  } else {
    const Choices choices = choose_experts(p, token, run.tag, lane);
    r.chosen = choices.own;
    r.has_nan = choices.has_nan;
  }
  const int slot = slot_of_expert(p, r.chosen.id);
  // Ids that are given may repeat, and a map may give two experts one slot.
  int leader = lane;
  if (p.ids != nullptr || p.expert_map != nullptr) {
    leader = __ffs(static_cast<int>(__match_any_sync(kAllLanes, slot < 0 ? -1 - lane : slot))) - 1;
  }
  const bool own = slot >= 0 && leader == lane;
  r.choice = {own ? slot : -1, slot >= 0 ? leader : -1};
  r.expected = __popc(__ballot_sync(kAllLanes, own));
  return r;
}

__device__ inline void count_nan_token(const Params& p) {
  atomicAdd(reinterpret_cast<unsigned long long*>(&p.counters->nan_tokens), 1ull);
}

// Without local_lists, by one lane of a routed token: what its combination must know besides its
// slots.
__device__ inline void finish_token(const Params& p, int token, int expected) {
  if (p.shared_intermediate > 0) {
    const std::int64_t logits = std::int64_t{1} * token * logits_stride(p.experts_total);
    p.weights[std::int64_t{1} * token * p.y_rows + p.top_k] =
        p.shared_gate == nullptr ? 1.0f : sigmoid_of(__ldcg(p.logits + logits + p.experts_total));
  }
  p.expected[token] = expected;
}

// What is done once per token in a launch, whoever does it.
__device__ inline void report_token(const Params& p, const Route& r, int token, int lane) {
  if (lane < p.top_k) {
    const std::int64_t at = std::int64_t{1} * token * p.top_k + lane;
    if (p.out_ids != nullptr) p.out_ids[at] = r.chosen.id;
    if (p.out_weights != nullptr) p.out_weights[at] = r.chosen.weight;
  }
  if (r.has_nan && lane == 0) count_nan_token(p);
}

// Routes a token for the whole launch: its choices become known to every block, or (returned) the
// slot whose list this lane's entry joins, -1: none.
__device__ inline int dispatch_token(const Params& p, const Run& run, int token, int lane) {
  const Route r = route_token(p, run, token, lane);
  const std::int64_t entry = std::int64_t{1} * token * p.top_k + lane;
  if (p.local_lists) {
    if (lane < p.top_k) {
      store_word(p.choice_words + entry, r.choice.packed(), run.tag);
      store_word(p.weight_words + entry, __float_as_uint(r.chosen.weight), run.tag);
    }
  } else {
    if (lane < p.top_k) {
      p.y_slot[entry] = r.choice.y_slot;
      p.weights[std::int64_t{1} * token * p.y_rows + lane] = r.chosen.weight;
    }
    if (lane == 0) finish_token(p, token, r.expected);
  }
  report_token(p, r, token, lane);
  return r.choice.slot;
}

// Routes a token for this block.
template <typename Local>
__device__ void route_token_here(const Params& p, Local& local, const Run& run, int token,
                                 int lane) {
  const Route r = route_token(p, run, token, lane);
  if (lane < p.top_k) {
    local.choice[token * p.top_k + lane] = r.choice.packed();
    local.weight[token * p.top_k + lane] = r.chosen.weight;
  }
  if (run.first) report_token(p, r, token, lane);
}

}  // namespace moeopt::cuda::moe
