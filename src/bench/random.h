// Repeatable draws for workloads and resampling.
// Invariant: a seed gives the same values with every compiler and standard library; the engine of
// <random> promises that, its distributions do not.
#pragma once

#include <cstdint>
#include <random>

namespace moeopt::bench {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  double uniform();                          // [0, 1)
  std::uint64_t below(std::uint64_t limit);  // [0, limit), limit >= 1, without bias
  double normal();                           // mean 0, standard deviation 1 (Box-Muller)
  double exponential();                      // mean 1

 private:
  std::mt19937_64 engine_;
};

}  // namespace moeopt::bench
