// What the always-on expert counters cost: their own code, timed alone on this machine for a
// model's sizes. A difference of two runs would drown in the machine's noise.
#pragma once

#include <cstdint>

#include "model/model_spec.h"

namespace moeopt::cli {

struct CounterCost {
  double ns_per_row = 0;   // a (token, expert) row of one layer
  double ns_per_step = 0;  // clearing a step's counts and adding them to the totals

  // Of a run that took `wall_s`.
  double share(std::uint64_t rows, std::uint64_t steps, double wall_s) const;
};

// Takes about 100 ms. All zeros for a model without experts.
CounterCost measure_counters(const ModelSpec& spec);

}  // namespace moeopt::cli
