// Top-k of four tokens at a time by one warp, eight lanes (a *team*) a token: with many tokens the
// time of a top-k is its chain of instructions, which four tokens share. Invariant: the same routes
// and the same bits as route.cuh, whose order of sums and of equals it keeps; for layers that fit
// (teams_fit).
#pragma once

#include "cuda/moe/route.cuh"

namespace moeopt::cuda::moe {

inline constexpr int kTeam = 8;
inline constexpr int kTeams = 32 / kTeam;
inline constexpr int kTeamExperts = 128;

__device__ inline bool teams_fit(const Params& p) {
  return p.ids == nullptr && p.expert_map == nullptr && p.experts_total <= kTeamExperts &&
         p.groups == 1;
}

__device__ inline bool any_of_team(bool value, int lane) {
  return (__ballot_sync(kAllLanes, value) >> (lane / kTeam * kTeam) & 0xff) != 0;
}

// The largest of a lane's keys, of equals the first, by halves: a short chain.
struct Best {
  std::uint32_t key;
  int at;
  float score;
};
template <int kCount>
__device__ __forceinline__ Best best_of(const std::uint32_t (&key)[kCount],
                                        const float (&score)[kCount]) {
  static_assert((kCount & (kCount - 1)) == 0);
  Best best[kCount];
#pragma unroll
  for (int n = 0; n < kCount; ++n) best[n] = {key[n], n, score[n]};
#pragma unroll
  for (int step = 1; step < kCount; step *= 2) {
#pragma unroll
    for (int n = 0; n < kCount; n += 2 * step) {
      if (best[n + step].key > best[n].key) best[n] = best[n + step];
    }
  }
  return best[0];
}

// Token `token` of the team (-1: none). Returns the packed slots whose lists the lane's choices,
// slots lane % 8 and that plus 8, join; -1: none.
inline __device__ __noinline__ int2 dispatch_teams(const Params& p, int token, int lane) {
  constexpr int kRuns = kTeamExperts / (4 * kTeam);  // of four experts
  const int member = lane % kTeam;
  const bool valid = token >= 0;
  const std::int64_t row = std::int64_t{1} * max(token, 0) * logits_stride(p.experts_total);
  // Run i of a member is what lane member + 8 i has in choose_experts.
  float score[4 * kRuns];
  const auto expert_of = [member](int n) { return 4 * (member + kTeam * (n / 4)) + n % 4; };
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    const int first = expert_of(4 * i);
    const float4 four = first < p.experts_total
                            ? __ldcg(reinterpret_cast<const float4*>(p.logits + row + first))
                            : float4{};
    score[4 * i] = four.x;
    score[4 * i + 1] = four.y;
    score[4 * i + 2] = four.z;
    score[4 * i + 3] = four.w;
  }
  bool nan = false;
#pragma unroll
  for (int n = 0; n < 4 * kRuns; ++n) {
    if (expert_of(n) >= p.experts_total) score[n] = -INFINITY;
    nan |= isnan(score[n]);
  }
  bool has_nan = any_of_team(nan, lane);
  bool any_number = true;
  std::uint32_t nans = 0;  // bit n: score[n]
  if (__any_sync(kAllLanes, nan) != 0) {
#pragma unroll
    for (int n = 0; n < 4 * kRuns; ++n) {
      if (!isnan(score[n])) continue;
      nans |= 1u << n;
      score[n] = -INFINITY;
    }
    int left = 0;  // numbers
#pragma unroll 1
    for (int n = 0; n < 4 * kRuns; ++n) {
      left += expert_of(n) < p.experts_total && (nans >> n & 1) == 0 ? 1 : 0;
    }
    any_number = any_of_team(left > 0, lane);
  }
  if (p.score == MOEOPT_SOFTMAX) {
    float largest = score[0];
#pragma unroll
    for (int n = 1; n < 4 * kRuns; ++n) largest = fmaxf(largest, score[n]);
#pragma unroll
    for (int step = kTeam / 2; step > 0; step /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
    }
    float sums[kRuns];
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      sums[i] = 0;
#pragma unroll
      for (int n = 4 * i; n < 4 * i + 4; ++n) {
        score[n] = __expf(score[n] - largest);  // 0 beyond the last, unless the sum is NaN anyway
        sums[i] += score[n];
      }
    }
    static_assert(kRuns == 4);
    float sum = (sums[0] + sums[2]) + (sums[1] + sums[3]);  // as warp_sum adds
#pragma unroll
    for (int step = kTeam / 2; step > 0; step /= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, step);
    }
    has_nan |= isnan(sum);  // an infinite logit
    const float scale = __fdividef(1.0f, sum);
#pragma unroll
    for (float& value : score) value *= scale;
  } else {
#pragma unroll
    for (float& value : score) value = any_number ? sigmoid_of(value) : NAN;
  }
  float selected[4 * kRuns];  // what experts are chosen by
#pragma unroll
  for (int n = 0; n < 4 * kRuns; ++n) selected[n] = score[n];
  if (p.correction_bias != nullptr) {
#pragma unroll
    for (int n = 0; n < 4 * kRuns; ++n) {
      selected[n] += __ldg(p.correction_bias + min(expert_of(n), p.experts_total - 1));
    }
  }
  std::uint32_t key[4 * kRuns];
#pragma unroll
  for (int n = 0; n < 4 * kRuns; ++n) {
    if ((nans >> n & 1) != 0) selected[n] = -INFINITY;
    key[n] = expert_of(n) < p.experts_total ? ordered_key(nan_to_lowest(selected[n])) : 0;
  }

  int id[2] = {-1, -1};
  float weight[2] = {0, 0};
  float sum = 0;
#pragma unroll 1
  for (int slot = 0; slot < p.top_k; ++slot) {
    const Best best = best_of(key, score);
    // Of equals the lower id.
    std::uint64_t top = static_cast<std::uint64_t>(best.key) << 32 |
                        static_cast<std::uint32_t>(kTeamExperts - expert_of(best.at));
#pragma unroll
    for (int step = kTeam / 2; step > 0; step /= 2) {
      top = max(top, __shfl_xor_sync(kAllLanes, top, step));
    }
    const int expert = kTeamExperts - static_cast<int>(top & 0xffffffffu);
    const int owner = expert / 4 % kTeam;
    const float value = __shfl_sync(kAllLanes, best.score, lane / kTeam * kTeam + owner);
#pragma unroll
    for (int n = 0; n < 4 * kRuns; ++n) key[n] = expert_of(n) == expert ? 0 : key[n];
    sum += value;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (slot != member + kTeam * i) continue;
      id[i] = expert;
      weight[i] = value;
    }
  }

  int slots[2];
  int expected = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int slot = member + kTeam * i;
    const bool mine = valid && slot < p.top_k;
    slots[i] = mine && id[i] < p.slots ? id[i] : -1;
    const std::uint32_t here = __ballot_sync(kAllLanes, slots[i] >= 0);
    expected += __popc(here >> (lane / kTeam * kTeam) & 0xff);
    if (!mine) continue;
    const float routed = final_weight(p, weight[i], sum);
    const std::int64_t at = std::int64_t{1} * token * p.top_k + slot;
    p.y_slot[at] = slots[i] >= 0 ? slot : -1;
    p.weights[std::int64_t{1} * token * p.y_rows + slot] = routed;
    if (p.out_ids != nullptr) p.out_ids[at] = id[i];
    if (p.out_weights != nullptr) p.out_weights[at] = routed;
  }
  if (valid && member == 0) {
    finish_token(p, token, expected);
    if (has_nan) count_nan_token(p);
  }
  return {slots[0], slots[1]};
}

}  // namespace moeopt::cuda::moe
