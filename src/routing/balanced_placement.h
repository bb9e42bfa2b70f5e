// Our placement of one layer: a forecast of each expert's rows, copies for the heavy ones, longest
// first onto GPUs, then exchanges that lower the expected load of the busiest GPU over what the
// windows of the log have shown, and last, at that load, exchanges that send tokens to fewer GPUs.
#pragma once

#include <span>
#include <vector>

#include "routing/placement.h"

namespace moeopt {

// Rows of one layer's experts, window after window of the log, [n_windows][n_experts].
struct ExpertHistory {
  int n_experts = 0;
  std::vector<std::vector<double>> windows;

  std::vector<double> total() const;
};

// Rows to expect next: windows weighted by decay^age, as a share (sums to 1). decay 1: all alike.
std::vector<double> forecast(const ExpertHistory& history, double decay);

// The decay whose forecasts from the first windows come nearest the later ones, over all layers.
double choose_decay(std::span<const ExpertHistory> layers);

struct BalancedOptions {
  double decay = 1.0;
  // Experts chosen together, [n_experts, n_experts] counts; empty: traffic is not looked at.
  std::span<const float> together;
};

// Greedy longest-first of the forecast alone, no exchanges: the middle rung of the comparison.
LayerPlacement greedy_placement(const PlacementShape& shape, std::span<const double> rows);

// Groups (or, without groups, single experts) are shared out to hosts first; copies stay there.
LayerPlacement balanced_placement(const PlacementShape& shape, const ExpertHistory& history,
                                  const BalancedOptions& options);

}  // namespace moeopt
