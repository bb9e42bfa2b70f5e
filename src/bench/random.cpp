#include "bench/random.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "base/check.h"

namespace moeopt::bench {

double Random::uniform() {
  return static_cast<double>(engine_() >> 11) * 0x1p-53;
}

std::uint64_t Random::below(std::uint64_t limit) {
  MOEOPT_CHECK(limit > 0u);
  // The draws past the last whole multiple of `limit` would favour small values.
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t biased_from = kMost - kMost % limit;
  while (true) {
    const std::uint64_t bits = engine_();
    if (bits < biased_from) return bits % limit;
  }
}

double Random::normal() {
  const double radius = std::sqrt(2.0 * exponential());
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

double Random::exponential() {
  return -std::log1p(-uniform());
}

}  // namespace moeopt::bench
