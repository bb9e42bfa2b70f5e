// CountsWindow: the rows per layer and expert of the last ten seconds, from totals that only grow.
// Invariant: memory is fixed at construction. A window holds every row that was counted within
// kLength, and none that was counted more than kLength + kStep and one update earlier.
#pragma once

#include <array>
#include <chrono>

#include "routing/expert_counts.h"

namespace moeopt {

class CountsWindow {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kLength{10}, kStep{1};

  CountsWindow(const ExpertCounts& total, Clock::time_point now);

  // The total changed at `now`, which does not run backwards.
  void update(const ExpertCounts& total, Clock::time_point now);

  const ExpertCounts& total() const { return latest_.total; }
  Clock::time_point updated() const { return latest_.since; }
  // Zeros when nothing was counted within kLength.
  ExpertCounts at(Clock::time_point now) const;

 private:
  struct Mark {
    Clock::time_point since;  // the total was this from then on, until the next update
    ExpertCounts total{{}};
  };

  Mark latest_;
  // A ring: marks that were followed by others at least kStep apart, enough to reach over kLength.
  std::array<Mark, kLength / kStep + 2> marks_;
  std::size_t newest_ = 0;
  Clock::time_point marked_;
};

}  // namespace moeopt
