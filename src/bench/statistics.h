// Exact statistics over samples: nothing is binned, sketched or interpolated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "bench/random.h"

namespace moeopt::bench {

// Nearest rank: the smallest sample that at least `percent` % of the samples do not exceed. Always
// one of the samples. `sorted` ascending and not empty; 0 < percent <= 100.
double percentile(std::span<const double> sorted, double percent);

struct Spread {
  std::size_t count = 0;  // 0: everything else means nothing
  double mean = 0, min = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;
};

Spread spread_of(std::vector<double> samples);

// Samples that belong to groups (the gaps of a request), for percentiles in which each group counts
// a given number of times.
class GroupedSamples {
 public:
  void add(double value, std::size_t group) { samples_.push_back({value, group}); }
  bool empty() const { return samples_.empty(); }
  // Call once, after the last add().
  void sort();
  // As percentile(), each sample standing `weights[group]` times. 0 when all weights are.
  double percentile(double percent, std::span<const std::uint32_t> weights) const;

 private:
  struct Sample {
    double value;
    std::size_t group;
  };
  std::vector<Sample> samples_;
};

// How often each of n things is drawn when n are drawn with replacement.
std::vector<std::uint32_t> draw_weights(std::size_t n, Random& random);

struct Interval {
  double low = 0, high = 0;
  bool contains(double value) const { return low <= value && value <= high; }
};

// The percentile bootstrap at 95%: `draw` makes one resampled value; values that are not finite are
// left out. {0, 0} when none is finite.
Interval bootstrap_interval(int resamples, const std::function<double()>& draw);

// The mean of factors: exp of the mean logarithm. Every factor above 0; 0 for none.
double geometric_mean(std::span<const double> factors);

}  // namespace moeopt::bench
