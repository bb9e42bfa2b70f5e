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
    Word words[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      words[i] = first + i < p.experts_total ? load_word(p.logit_words + row + i) : 0;
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      logits[i] = -INFINITY;
      if (first + i >= p.experts_total) continue;
      logits[i] = __uint_as_float(
          has_tag(words[i], tag) ? static_cast<std::uint32_t>(words[i])
                                 : wait_for_word(p.logit_words + row + i, tag, "router logits"));
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

// The warp's token to chosen[0 .. k); returns whether a logit is NaN. NOTE: run once or twice a
// launch, its instructions come cold from memory: few count for more than fast.
template <int kPerLane>
__device__ __noinline__ bool choose_experts(const Params& p, std::int64_t token, std::uint32_t tag,
                                            Chosen* chosen, int lane) {
  float score[kPerLane];
  std::uint32_t key[kPerLane];
  float largest = -INFINITY;
  bool has_nan = false;
  bool any_number = false;
  const int first = kPerLane * lane;
  load_logits(p, token, tag, score, first);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const bool nan = isnan(score[i]);
    has_nan |= nan;
    any_number |= first + i < p.experts_total && !nan;
    key[i] = nan ? 1 : 0;
    score[i] = nan_to_lowest(score[i]);
    largest = fmaxf(largest, score[i]);
  }
  has_nan = __any_sync(kAllLanes, has_nan) != 0;
  any_number = __any_sync(kAllLanes, any_number) != 0;
  if (p.score == MOEOPT_SOFTMAX) {
    largest = key_value(__reduce_max_sync(kAllLanes, ordered_key(largest)));
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      score[i] = first + i < p.experts_total ? __expf(score[i] - largest) : 0.0f;
      sum += score[i];
    }
    sum = warp_sum(sum);
    has_nan |= isnan(sum);  // an infinite logit
    const float scale = __fdividef(1.0f, sum);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) score[i] *= scale;
  } else {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      score[i] = any_number ? sigmoid_of(score[i]) : NAN;
    }
  }
  std::uint32_t best = 0;
  int best_at = 0;
  float best_score = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (first + i >= p.experts_total) {
      key[i] = 0;
      continue;
    }
    const float bias = p.correction_bias != nullptr ? __ldg(p.correction_bias + first + i) : 0.0f;
    key[i] = ordered_key(key[i] == 1 ? -INFINITY : nan_to_lowest(score[i] + bias));
  }
  if (p.groups > 1) keep_best_groups(p, key, lane);

  const auto find_best = [&] {
    best = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (key[i] > best) {
        best = key[i];
        best_at = i;
        best_score = score[i];
      }
    }
  };
  find_best();
#pragma unroll 1
  for (int slot = 0; slot < p.top_k; ++slot) {
    const std::uint32_t top = __reduce_max_sync(kAllLanes, best);
    const int owner = __ffs(static_cast<int>(__ballot_sync(kAllLanes, best == top))) - 1;
    if (lane == owner) {
      chosen[slot] = {first + best_at, best_score};
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) key[i] = i == best_at ? 0 : key[i];
      find_best();
    }
  }
  __syncwarp();
  const float weight = lane < p.top_k ? chosen[lane].weight : 0.0f;
  float sum = 0;
  if (p.renormalise != 0) {
#pragma unroll 1
    for (int slot = 0; slot < p.top_k; ++slot) sum += chosen[slot].weight;
  }
  __syncwarp();
  if (lane < p.top_k) chosen[lane].weight = final_weight(p, weight, sum);
  __syncwarp();
  return has_nan;
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

__device__ __forceinline__ Route route_token(const Params& p, const Run& run, Chosen* chosen,
                                             int token, int lane) {
  Route r{};
  r.chosen.id = -1;
  if (p.ids != nullptr) {
    if (lane < p.top_k) {
      r.chosen.id = __ldg(p.ids + std::int64_t{1} * token * p.top_k + lane);
      r.chosen.weight = __ldg(p.given_weights + std::int64_t{1} * token * p.top_k + lane);
    }
    r.has_nan = __any_sync(kAllLanes, isnan(r.chosen.weight)) != 0;
  } else if (p.experts_total <= 128) {
    r.has_nan = choose_experts<4>(p, token, run.tag, chosen, lane);
  } else {
    r.has_nan = choose_experts<16>(p, token, run.tag, chosen, lane);
  }
  if (p.ids == nullptr && lane < p.top_k) r.chosen = chosen[lane];
  const int slot = lane < p.top_k ? slot_of_expert(p, r.chosen.id) : -1;
  const int leader =
      __ffs(static_cast<int>(__match_any_sync(kAllLanes, slot < 0 ? -1 - lane : slot))) - 1;
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
__device__ inline int dispatch_token(const Params& p, const Run& run, Chosen* chosen, int token,
                                     int lane) {
  const Route r = route_token(p, run, chosen, token, lane);
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
__device__ void route_token_here(const Params& p, Local& local, const Run& run, Chosen* chosen,
                                 int token, int lane) {
  const Route r = route_token(p, run, chosen, token, lane);
  if (lane < p.top_k) {
    local.choice[token * p.top_k + lane] = r.choice.packed();
    local.weight[token * p.top_k + lane] = r.chosen.weight;
  }
  if (run.first) report_token(p, r, token, lane);
}

}  // namespace moeopt::cuda::moe
