#include "text/grammar/number_range.h"

#include <algorithm>
#include <array>
#include <string>

namespace moeopt {
namespace {

constexpr std::int64_t kUnboundedMagnitude = 999'999'999'999'999'999;

// Rules for what is not negative; a sign before them makes the others.
class Magnitudes {
 public:
  explicit Magnitudes(PushdownBuilder& builder) : builder_(builder) {}

  // The numbers from `least` to `most`, both at least 0.
  void add(StateId entry, NumberBound least, NumberBound most, bool whole) {
    const std::int64_t first = least.value + (least.exclusive ? 1 : 0);
    if (whole)
      return digits(entry, first, most.value - (most.exclusive ? 1 : 0), Pushdown::kReturn);
    // A whole part below the upper bound goes with any fraction.
    digits(entry, first, most.value - 1, optional_fraction());
    if (least.exclusive && least.value < most.value) {
      digits(entry, least.value, least.value, fraction_above_zero());
    }
    if (!most.exclusive && most.value >= first) {
      digits(entry, most.value, most.value, optional_zero_fraction());
    }
  }

 private:
  // The whole numbers from `low` to `high`, into `to`.
  void digits(StateId from, std::int64_t low, std::int64_t high, StateId to) {
    if (low > high) return;
    const std::string low_text = std::to_string(low);
    const std::string high_text = std::to_string(high);
    for (std::size_t n = low_text.size(); n <= high_text.size(); ++n) {
      const std::string least = n == low_text.size() ? low_text : "1" + std::string(n - 1, '0');
      const std::string most = n == high_text.size() ? high_text : std::string(n, '9');
      same_length(from, least, most, to);
    }
  }

  // A state for each position and whether the digits so far are those of a bound.
  void same_length(StateId from, const std::string& low, const std::string& high, StateId to) {
    const std::size_t n = low.size();
    std::array<std::optional<StateId>, 4> at;
    at[3] = from;
    for (std::size_t i = 0; i < n; ++i) {
      std::array<std::optional<StateId>, 4> next;
      for (std::size_t tight = 0; tight < 4; ++tight) {
        if (!at[tight]) continue;
        const bool on_low = (tight & 1) != 0;
        const bool on_high = (tight & 2) != 0;
        for (char digit = on_low ? low[i] : '0'; digit <= (on_high ? high[i] : '9'); ++digit) {
          const std::size_t then =
              (on_low && digit == low[i] ? 1U : 0U) | (on_high && digit == high[i] ? 2U : 0U);
          if (!next[then]) next[then] = i + 1 == n ? to : builder_.state();
          builder_.byte(*at[tight], digit, *next[then]);
        }
      }
      at = next;
    }
  }

  // Up to kMostFractionDigits digits, each of which may be the last.
  void fraction_digits(StateId from, char low, char high, int most) {
    for (int i = 0; i < most; ++i) {
      const StateId next = builder_.state();
      builder_.bytes(from, static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), next);
      builder_.empty(next, Pushdown::kReturn);
      from = next;
    }
  }

  StateId optional_fraction() { return optional_fraction_of('9'); }
  StateId optional_zero_fraction() { return optional_fraction_of('0'); }
  StateId optional_fraction_of(char high) {
    const StateId begin = builder_.state();
    const StateId point = builder_.state();
    builder_.empty(begin, Pushdown::kReturn);
    builder_.byte(begin, '.', point);
    fraction_digits(point, '0', high, kMostFractionDigits);
    return begin;
  }

  // A point, zeros, another digit, any digits.
  StateId fraction_above_zero() {
    const StateId begin = builder_.state();
    StateId at = builder_.state();
    builder_.byte(begin, '.', at);
    const StateId after = builder_.state();
    builder_.empty(after, Pushdown::kReturn);
    fraction_digits(after, '0', '9', kMostFractionDigits / 2);
    for (int i = 0; i < kMostFractionDigits / 2; ++i) {
      builder_.bytes(at, '1', '9', after);
      const StateId next = builder_.state();
      builder_.byte(at, '0', next);
      at = next;
    }
    return begin;
  }

  PushdownBuilder& builder_;
};

}  // namespace

void add_number_range(PushdownBuilder& builder, StateId entry, const NumberRange& range) {
  Magnitudes magnitudes(builder);
  const NumberBound least = range.least.value_or(NumberBound{-kUnboundedMagnitude, false});
  const NumberBound most = range.most.value_or(NumberBound{kUnboundedMagnitude, false});
  if (most.value >= 0) {
    magnitudes.add(entry, least.value < 0 ? NumberBound{0, false} : least, most, range.whole);
  }
  if (least.value < 0) {
    const StateId negative = builder.state();
    builder.byte(entry, '-', negative);
    // NOTE: without "-0", which is not below 0.
    const NumberBound nearest =
        most.value < 0 ? NumberBound{-most.value, most.exclusive} : NumberBound{0, true};
    magnitudes.add(negative, nearest, {-least.value, least.exclusive}, range.whole);
  }
}

}  // namespace moeopt
