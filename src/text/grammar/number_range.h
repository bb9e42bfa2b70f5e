// Numbers between two whole bounds, as rules: what minimum and maximum of a schema are compiled to.
// Invariant: what a rule reads is a number within its range, written without exponent.
#pragma once

#include <cstdint>
#include <optional>

#include "text/grammar/pushdown.h"

namespace moeopt {

inline constexpr int kMostFractionDigits = 20;  // a double is written in fewer

struct NumberBound {
  std::int64_t value;
  bool exclusive;
};

struct NumberRange {
  // Of a bound: below it there are more digits than a double tells apart.
  static constexpr std::int64_t kMostMagnitude = 1'000'000'000'000'000;

  std::optional<NumberBound> least;
  std::optional<NumberBound> most;
  bool whole = false;  // only whole numbers, without a fraction
};

// From `entry` to kReturn; nothing when no number is within the range.
void add_number_range(PushdownBuilder& builder, StateId entry, const NumberRange& range);

}  // namespace moeopt
