#include "engine/engine_snapshot.h"

#include <algorithm>

namespace moeopt {

void StepTimeHistogram::add(double ms) {
  const auto* const at = std::ranges::lower_bound(kUpperMs, ms);
  counts[static_cast<std::size_t>(at - kUpperMs.begin())] += 1;
  sum_ms += ms;
}

std::string_view service_state_name(ServiceState state) {
  switch (state) {
    case ServiceState::kServing:
      return "serving";
    case ServiceState::kFailing:
      return "failing";
    case ServiceState::kStuck:
      return "stuck";
    case ServiceState::kDraining:
      return "draining";
    case ServiceState::kStopped:
      return "stopped";
  }
  return "?";
}

}  // namespace moeopt
