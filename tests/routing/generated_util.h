// Routing that no model did, for tests of placements.
#pragma once

#include <cstdint>

#include "routing/placement_plan.h"

namespace moeopt {

// Logs that no model wrote, for tests and for comparing placements: skewed shares (Zipf), topics
// that come and go, and shares that wander.
struct GeneratedLog {
  int n_layers = 58;
  int n_experts = 256;
  int top_k = 8;
  int windows = 32;
  int tokens_per_window = 512;
  double zipf = 0.6;    // exponent of the shares
  double wander = 0.1;  // lognormal step of a share from window to window
  double topics = 0.0;  // how strongly a request's topic bends the shares
  std::uint64_t seed = 1;
};
// Rows drawn token by token without repetition, as statistics with placement_statistics_options().
LogStatistics generate_statistics(const GeneratedLog& log);

}  // namespace moeopt
