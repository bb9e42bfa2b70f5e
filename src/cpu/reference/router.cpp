#include "cpu/reference/router.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace moeopt::cpu::reference {
namespace {

template <typename Real>
constexpr Real kNan = std::numeric_limits<Real>::quiet_NaN();
template <typename Real>
constexpr Real kLowest = -std::numeric_limits<Real>::infinity();

template <typename Real>
Real or_lowest(Real value) {
  return std::isnan(value) ? kLowest<Real> : value;
}

template <typename Real>
void softmax(std::span<const Real> logits, std::span<Real> scores) {
  Real largest = kLowest<Real>;
  for (const Real logit : logits) largest = std::max(largest, or_lowest(logit));
  Real sum = 0;
  for (std::size_t e = 0; e < logits.size(); ++e) {
    scores[e] = std::exp(or_lowest(logits[e]) - largest);
    sum += scores[e];
  }
  for (Real& score : scores) score /= sum;
}

template <typename Real>
void sigmoid(std::span<const Real> logits, std::span<Real> scores) {
  const bool any = std::any_of(logits.begin(), logits.end(), [](Real l) { return !std::isnan(l); });
  for (std::size_t e = 0; e < logits.size(); ++e) {
    scores[e] = any ? 1 / (1 + std::exp(-or_lowest(logits[e]))) : kNan<Real>;
  }
}

template <typename Real>
Real group_score(std::span<const Real> choice, GroupScore kind) {
  Real best = kLowest<Real>;
  Real second = kLowest<Real>;
  for (const Real value : choice) {
    if (value > best) {
      second = best;
      best = value;
    } else {
      second = std::max(second, value);
    }
  }
  return kind == GroupScore::kMax || choice.size() == 1 ? best : best + second;
}

// Index of the largest value, the lowest of equals; NaN marks what may not be taken.
template <typename Real>
int largest_of(std::span<const Real> values) {
  int best = -1;
  for (int i = 0; i < static_cast<int>(values.size()); ++i) {
    if (std::isnan(values[i])) continue;
    if (best < 0 || values[i] > values[best]) best = i;
  }
  MOEOPT_CHECK(best >= 0);
  return best;
}

// Leaves the best top_k_groups groups in `choice`, NaN in the others.
template <typename Real>
void keep_best_groups(const RouterSpec& router, std::span<Real> choice, std::span<Real> groups) {
  const std::size_t size = choice.size() / groups.size();
  for (std::size_t g = 0; g < groups.size(); ++g) {
    groups[g] = or_lowest(group_score<Real>(choice.subspan(g * size, size), router.group_score));
  }
  for (int kept = 0; kept < router.top_k_groups; ++kept) {
    groups[largest_of<Real>(groups)] = kNan<Real>;
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (!std::isnan(groups[g])) std::ranges::fill(choice.subspan(g * size, size), kNan<Real>);
  }
}

}  // namespace

template <typename Real>
void route(std::span<const Real> logits, const MoeSpec& spec, std::span<const float> bias,
           std::span<Real> scratch, std::span<std::int32_t> ids, std::span<Real> weights) {
  const RouterSpec& router = spec.router;
  const auto n_experts = static_cast<std::size_t>(spec.n_experts);
  MOEOPT_CHECK(logits.size() == n_experts);
  MOEOPT_CHECK(scratch.size() >= route_scratch(spec));
  const std::span<Real> scores = scratch.first(n_experts);
  const std::span<Real> choice = scratch.subspan(n_experts, n_experts);

  if (router.score == RouterScore::kSoftmax) {
    softmax(logits, scores);
  } else {
    sigmoid(logits, scores);
  }
  for (std::size_t e = 0; e < n_experts; ++e) {
    const Real corrected = bias.empty() ? scores[e] : scores[e] + bias[e];
    choice[e] = std::isnan(logits[e]) ? kLowest<Real> : or_lowest(corrected);
  }
  if (router.n_groups > 1) {
    const auto n_groups = static_cast<std::size_t>(router.n_groups);
    keep_best_groups(router, choice, scratch.subspan(2 * n_experts, n_groups));
  }

  Real sum = 0;
  for (int slot = 0; slot < spec.top_k; ++slot) {
    const int expert = largest_of<Real>(choice);
    choice[expert] = kNan<Real>;
    ids[slot] = expert;
    weights[slot] = scores[expert];
    sum += scores[expert];
  }
  for (int slot = 0; slot < spec.top_k; ++slot) {
    if (router.renormalise) weights[slot] /= sum + static_cast<Real>(router.renormalise_epsilon);
    weights[slot] *= static_cast<Real>(router.scale);
  }
}

template void route(std::span<const float>, const MoeSpec&, std::span<const float>,
                    std::span<float>, std::span<std::int32_t>, std::span<float>);
template void route(std::span<const double>, const MoeSpec&, std::span<const float>,
                    std::span<double>, std::span<std::int32_t>, std::span<double>);

}  // namespace moeopt::cpu::reference
