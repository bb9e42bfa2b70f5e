#include "gpu/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/reference/router.h"

namespace moeopt::gpu_test {
namespace {

constexpr double kLowest = -std::numeric_limits<double>::infinity();
// Below this float32 has no value: scores so small are all alike.
constexpr double kSmallestScore = 1e-30;

double or_lowest(double value) {
  return std::isnan(value) ? kLowest : value;
}

// a > b, and not by a tie
class ClearlyAbove {
 public:
  explicit ClearlyAbove(double tie) : tie_(tie) {}
  bool operator()(double a, double b) const {
    if (!(a > b)) return false;
    if (std::isinf(b)) return true;
    return a - b > std::max(tie_ * std::max(std::fabs(a), std::fabs(b)), kSmallestScore);
  }

 private:
  double tie_;
};

MoeSpec spec_of(const moeopt_moe_desc& desc) {
  MoeSpec spec;
  spec.n_experts = desc.experts;
  spec.top_k = desc.top_k;
  spec.intermediate = desc.intermediate;
  spec.router.score = desc.score == MOEOPT_SIGMOID ? RouterScore::kSigmoid : RouterScore::kSoftmax;
  spec.router.n_groups = std::max(desc.groups, 1);
  spec.router.top_k_groups = std::max(desc.top_k_groups, 1);
  spec.router.group_score =
      desc.group_score == MOEOPT_GROUP_TOP2 ? GroupScore::kTopTwoSum : GroupScore::kMax;
  spec.router.renormalise = desc.renormalise != 0;
  spec.router.renormalise_epsilon = desc.renormalise_epsilon;
  spec.router.scale = desc.scale == 0 ? 1.0 : static_cast<double>(desc.scale);
  return spec;
}

double score_of_group(std::span<const double> choice, bool top2) {
  double best = kLowest;
  double second = kLowest;
  for (const double value : choice) {
    second = std::max(second, std::min(best, value));
    best = std::max(best, value);
  }
  return or_lowest(top2 && choice.size() > 1 ? best + second : best);
}

}  // namespace

double tolerance_factor(std::span<const double> logits) {
  double largest = kPlainLogit;
  for (const double logit : logits) {
    if (std::isfinite(logit)) largest = std::max(largest, std::fabs(logit));
  }
  return largest / kPlainLogit;
}

RoutedRow Router::decide(std::span<const double> logits) const {
  const MoeSpec spec = spec_of(desc_);
  RoutedRow row;
  row.ids.resize(static_cast<std::size_t>(desc_.top_k));
  row.weights.resize(row.ids.size());
  row.has_nan = std::ranges::any_of(logits, [](double l) { return std::isnan(l); });
  std::vector<double> scratch(cpu::reference::route_scratch(spec));
  cpu::reference::route<double>(logits, spec, bias_, scratch, row.ids, row.weights);
  return row;
}

std::vector<double> Router::scores_of(std::span<const double> logits) const {
  std::vector<double> scores(logits.size());
  double largest = kLowest;
  for (const double logit : logits) largest = std::max(largest, or_lowest(logit));
  double sum = 0;
  for (std::size_t e = 0; e < logits.size(); ++e) {
    const double logit = or_lowest(logits[e]);
    scores[e] =
        desc_.score == MOEOPT_SIGMOID ? 1 / (1 + std::exp(-logit)) : std::exp(logit - largest);
    sum += scores[e];
  }
  if (desc_.score != MOEOPT_SIGMOID) {
    for (double& score : scores) score /= sum;
  } else if (std::isinf(largest)) {
    std::ranges::fill(scores, std::numeric_limits<double>::quiet_NaN());
  }
  return scores;
}

std::vector<double> Router::choice_of(std::span<const double> logits) const {
  std::vector<double> choice = scores_of(logits);
  for (std::size_t e = 0; e < choice.size(); ++e) {
    if (!bias_.empty()) choice[e] += static_cast<double>(bias_[e]);
    choice[e] = std::isnan(logits[e]) ? kLowest : or_lowest(choice[e]);
  }
  return choice;
}

std::vector<double> Router::weights_of(std::span<const double> logits,
                                       std::span<const std::int32_t> ids) const {
  const std::vector<double> scores = scores_of(logits);
  std::vector<double> weights;
  double sum = 0;
  for (const std::int32_t id : ids) {
    weights.push_back(scores[static_cast<std::size_t>(id)]);
    sum += weights.back();
  }
  const double scale = desc_.scale == 0 ? 1.0 : static_cast<double>(desc_.scale);
  for (double& weight : weights) {
    if (desc_.renormalise != 0) weight /= sum + static_cast<double>(desc_.renormalise_epsilon);
    weight *= scale;
  }
  return weights;
}

std::optional<std::vector<bool>> Router::open_groups(std::span<const double> choice, double tie,
                                                     const std::vector<bool>& taken) const {
  const ClearlyAbove clearly_above(tie);
  const std::size_t n = taken.size();
  const std::size_t size = choice.size() / n;
  const auto kept = static_cast<std::size_t>(desc_.top_k_groups);
  std::vector<double> score(n);
  std::vector<double> best(n);
  for (std::size_t g = 0; g < n; ++g) {
    const auto group = choice.subspan(g * size, size);
    score[g] = score_of_group(group, desc_.group_score == MOEOPT_GROUP_TOP2);
    best[g] = *std::ranges::max_element(group);
  }
  std::vector<double> sorted = score;
  std::ranges::sort(sorted, std::greater<>());
  const double last_in = sorted[kept - 1];

  std::vector<bool> open(n);
  std::vector<std::size_t> fillers;  // as good as the last one in, and not needed
  std::size_t count = 0;
  for (std::size_t g = 0; g < n; ++g) {
    const bool out = clearly_above(last_in, score[g]);
    if (taken[g] && out) return std::nullopt;
    // One that is clearly above the first one out is in, whatever else ties.
    const bool in = kept == n || clearly_above(score[g], sorted[kept]);
    if (taken[g] || in) {
      open[g] = true;
      ++count;
    } else if (!out) {
      fillers.push_back(g);
    }
  }
  if (count > kept) return std::nullopt;
  std::ranges::sort(fillers, {}, [&](std::size_t g) { return best[g]; });
  for (const std::size_t g : fillers) {
    if (count == kept) break;
    open[g] = true;
    ++count;
  }
  return open;
}

std::optional<std::string> Router::fault_of(std::span<const double> logits,
                                            std::span<const std::int32_t> ids) const {
  const std::vector<double> choice = choice_of(logits);
  const double tie = kTie * tolerance_factor(logits);
  const ClearlyAbove clearly_above(tie);
  std::vector<bool> chosen(choice.size());
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    const std::int32_t id = ids[slot];
    const std::string name = "slot " + std::to_string(slot) + " has expert " + std::to_string(id);
    if (id < 0 || id >= desc_.experts) return name + ", which there is not";
    const auto e = static_cast<std::size_t>(id);
    if (chosen[e]) return name + " a second time";
    if (slot > 0 && clearly_above(choice[e], choice[static_cast<std::size_t>(ids[slot - 1])])) {
      return name + ", which belongs before the slot before";
    }
    chosen[e] = true;
    least = std::min(least, choice[e]);
  }

  std::vector<bool> open(choice.size(), true);
  if (desc_.groups > 1) {
    const auto n = static_cast<std::size_t>(desc_.groups);
    std::vector<bool> taken(n);
    for (const std::int32_t id : ids)
      taken[static_cast<std::size_t>(id) * n / choice.size()] = true;
    const auto groups = open_groups(choice, tie, taken);
    if (!groups) return "chose from a group that is not among the best";
    for (std::size_t e = 0; e < choice.size(); ++e) open[e] = (*groups)[e * n / choice.size()];
  }
  for (std::size_t e = 0; e < choice.size(); ++e) {
    if (open[e] && !chosen[e] && clearly_above(choice[e], least)) {
      return "left out expert " + std::to_string(e);
    }
  }
  return std::nullopt;
}

}  // namespace moeopt::gpu_test
