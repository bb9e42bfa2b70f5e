// OptimisationLedger: from planned to applied, by counters alone.
#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "plan/optimisations.h"

namespace moeopt {

OptimisationLedger::OptimisationLedger(std::vector<OptimisationState> planned) {
  for (OptimisationState& state : planned) entries_.push_back({std::move(state), {}});
}

std::size_t OptimisationLedger::index_of(std::string_view name) const {
  const auto at =
      std::ranges::find_if(entries_, [&](const Entry& e) { return e.state.name == name; });
  MOEOPT_CHECK(at != entries_.end());
  return static_cast<std::size_t>(at - entries_.begin());
}

bool OptimisationLedger::is_wanted(std::string_view name) const {
  const OptimisationStatus status = entries_[index_of(name)].state.status;
  return status == OptimisationStatus::kPlanned || status == OptimisationStatus::kApplied;
}

void OptimisationLedger::confirm(std::string_view name, int layers, std::uint64_t launches,
                                 std::function<std::uint64_t()> live) {
  MOEOPT_CHECK(is_wanted(name));
  MOEOPT_CHECK(layers > 0);
  if (launches == 0) return;
  Entry& confirmed = entries_[index_of(name)];
  confirmed.state.status = OptimisationStatus::kApplied;
  confirmed.state.layers = layers;
  confirmed.state.launches = launches;
  confirmed.live = std::move(live);
}

void OptimisationLedger::decline(std::string_view name, std::string reason) {
  MOEOPT_CHECK(is_wanted(name));
  Entry& declined = entries_[index_of(name)];
  declined.state.status = OptimisationStatus::kDeclined;
  declined.state.reason = std::move(reason);
  declined.state.layers = 0;
  declined.state.launches = 0;
  declined.live = {};
}

void OptimisationLedger::record_gain(std::string_view name, double factor) {
  entries_[index_of(name)].state.measured_gain = factor;
}

void OptimisationLedger::finish_startup() {
  for (Entry& planned : entries_) {
    if (planned.state.status != OptimisationStatus::kPlanned) continue;
    decline(planned.state.name, "its counter did not move in the start-up step");
  }
  for (const Entry& required : entries_) {
    const OptimisationState& state = required.state;
    if (state.asked == Ask::kRequire && state.status != OptimisationStatus::kApplied) {
      throw Error(ErrorCode::kRequirement,
                  fmt::format("{} is required ({}) and declined: {}", state.name,
                              state.asked_by.text(), state.reason));
    }
  }
}

std::vector<OptimisationState> OptimisationLedger::states() const {
  std::vector<OptimisationState> states;
  for (const Entry& e : entries_) {
    states.push_back(e.state);
    if (e.live) states.back().launches = e.live();
  }
  return states;
}

}  // namespace moeopt
