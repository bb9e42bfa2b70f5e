#include "engine/step_budget.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace moeopt {
namespace {

// How fast an average follows what is above it, and what is below. A bound is kept by expecting the
// worse: of a prefill token that it takes long; of a decode step, which is taken off to know the
// prefill's share until one was measured within the prompt, that it takes little, for one that was
// slow just before must not count as usual.
struct Rates {
  double up, down;
};
constexpr Rates kToken = {0.7, 0.2}, kDecode = {0.05, 0.5}, kDecodeWork = {0.5, 0.5};
// Steps are planned ahead of the one that is measured, so two in a row may be decode alone; with
// more no prompt is left.
constexpr int kMostAlone = 2;
// The aim stands still where the one balances the other: log(kMore) = share * log(1 / kLess), so at
// a share of 0.4% of the steps that come near the limit (kNear of it): who reads the stream waits a
// little longer than the step takes. Three such steps take a quarter off, so that a machine that
// turns noisy has not lost many by the time the aim fits it.
constexpr double kLess = 0.9, kMore = 1.00042, kNear = 0.9;

void follow(double& average, double measured, Rates rates) {
  if (average == 0) {
    average = measured;
  } else {
    average += (measured > average ? rates.up : rates.down) * (measured - average);
  }
}

}  // namespace

StepBudget::StepBudget(double limit_ms, int max_tokens, double context_of_token)
    : limit_ms_(limit_ms), max_tokens_(max_tokens), context_of_token_(context_of_token) {
  MOEOPT_CHECK(limit_ms >= 0);
  MOEOPT_CHECK(max_tokens > 0);
  MOEOPT_CHECK(context_of_token > 0);
}

void StepBudget::record(const StepMeasurement& step) {
  if (!(step.ms >= 0)) return;
  if (step.prefill_tokens == 0) {
    if (step.decode_sequences > 0) record_decode_alone(step.ms);
    return;
  }
  const double work = step.prefill_tokens + step.prefill_context / context_of_token_;
  double share_ms = step.ms;
  if (step.decode_sequences > 0) {
    share_ms = decode_work_ > 0 ? step.ms * work / (work + decode_work_)
                                : std::max(0.0, step.ms - decode_ms_);
  }
  follow(token_ms_, share_ms / work, kToken);
  largest_ = std::max(largest_, step.prefill_tokens);
  if (step.decode_sequences == 0) return;  // nobody waited, so nothing held it to the limit
  ++mixed_;
  alone_ = 0;
  aim_ = std::clamp(aim_ * (share_ms > kNear * limit_ms_ ? kLess : kMore), kLeastAim, kMostAim);
}

void StepBudget::record_decode_alone(double ms) {
  follow(decode_ms_, ms, kDecode);
  mixed_ = 0;
  alone_ = std::min(alone_ + 1, kMostAlone + 1);
  if (alone_ <= kMostAlone && token_ms_ > 0) {
    follow(decode_work_, ms / token_ms_, kDecodeWork);
  } else {
    decode_work_ = 0;
  }
}

// With t tokens from position p the work is t + (t * p + t * t / 2) / C; solved for t.
int StepBudget::tokens_at(int position) const {
  if (limit_ms_ == 0) return max_tokens_;
  if (token_ms_ == 0) return largest_ == 0 ? std::min(kFirstTokens, max_tokens_) : max_tokens_;
  const double work = aim_ * limit_ms_ / token_ms_;
  const double c = context_of_token_;
  const double b = 1 + position / c;
  const double tokens = c * (std::sqrt(b * b + 2 * work / c) - b);
  // At most four times what was ever measured: small chunks say little about large ones.
  const double most = std::min<double>(max_tokens_, 4.0 * std::max(largest_, kFirstTokens / 4));
  return static_cast<int>(std::clamp(tokens, 1.0, most));
}

double context_of_equal_cost(const ModelSpec& spec) {
  constexpr double kAttentionRate = 0.5;
  double products = 0;
  double per_position = 0;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    const double hidden = spec.hidden;
    products += hidden * a.n_heads * (a.qk_head_dim + a.v_head_dim);
    if (a.kind == AttentionKind::kMla) {
      per_position += a.n_heads * (2.0 * a.kv_lora_rank + a.qk_rope_dim);
    } else {
      products += hidden * a.n_kv_heads * (a.qk_head_dim + a.v_head_dim);
      per_position += a.n_heads * (a.qk_head_dim + a.v_head_dim);
    }
    if (layer.moe) {
      products += 3 * hidden *
                  (static_cast<double>(layer.moe->top_k) * layer.moe->intermediate +
                   layer.moe->shared_intermediate);
    } else {
      products += 3 * hidden * layer.dense_intermediate;
    }
  }
  if (per_position == 0) return 1e9;
  return std::max(1.0, kAttentionRate * products / per_position);
}

}  // namespace moeopt
