#include "routing/expert_counts.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace moeopt {

ExpertCounts::ExpertCounts(std::vector<int> experts_per_layer)
    : experts_per_layer_(std::move(experts_per_layer)) {
  for (const int experts : experts_per_layer_) max_experts_ = std::max(max_experts_, experts);
  rows_.assign(experts_per_layer_.size() * static_cast<std::size_t>(max_experts_), 0);
}

void ExpertCounts::add(std::span<const std::uint32_t> step) {
  MOEOPT_CHECK(step.size() == rows_.size());
  for (std::size_t i = 0; i < rows_.size(); ++i) rows_[i] += step[i];
}

void ExpertCounts::reset() {
  std::fill(rows_.begin(), rows_.end(), 0);
}

ExpertCounts ExpertCounts::since(const ExpertCounts& before) const {
  MOEOPT_CHECK(before.rows_.size() == rows_.size());
  ExpertCounts difference = *this;
  for (std::size_t i = 0; i < rows_.size(); ++i) difference.rows_[i] -= before.rows_[i];
  return difference;
}

std::span<const std::uint64_t> ExpertCounts::layer(int layer) const {
  MOEOPT_CHECK(layer >= 0);
  MOEOPT_CHECK(layer < n_layers());
  return std::span(rows_).subspan(
      static_cast<std::size_t>(layer) * static_cast<std::size_t>(max_experts_),
      static_cast<std::size_t>(n_experts(layer)));
}

std::uint64_t ExpertCounts::total() const {
  return std::accumulate(rows_.begin(), rows_.end(), std::uint64_t{0});
}

double ExpertCounts::imbalance(int layer) const {
  const auto rows = this->layer(layer);
  const auto sum = std::accumulate(rows.begin(), rows.end(), std::uint64_t{0});
  if (sum == 0) return 0.0;
  const auto most = *std::max_element(rows.begin(), rows.end());
  return static_cast<double>(most) * static_cast<double>(rows.size()) / static_cast<double>(sum);
}

int ExpertCounts::n_used(int layer) const {
  const auto rows = this->layer(layer);
  return static_cast<int>(
      std::count_if(rows.begin(), rows.end(), [](std::uint64_t count) { return count > 0; }));
}

}  // namespace moeopt
