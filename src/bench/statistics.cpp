#include "bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace moeopt::bench {
namespace {

// The 1-based rank of a percentile among `count` samples. The guard against rounding keeps
// 0.99 x 100 at rank 99: in floating point the product is above it.
std::uint64_t nearest_rank(double percent, std::uint64_t count) {
  const double exact = percent * static_cast<double>(count) / 100.0;
  const double rank = std::ceil(exact - 1e-9 * std::max(1.0, exact));
  return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(std::max(rank, 1.0)), 1, count);
}

}  // namespace

double percentile(std::span<const double> sorted, double percent) {
  MOEOPT_CHECK(!sorted.empty());
  MOEOPT_CHECK(percent > 0);
  MOEOPT_CHECK(percent <= 100);
  return sorted[nearest_rank(percent, sorted.size()) - 1];
}

Spread spread_of(std::vector<double> samples) {
  Spread spread;
  spread.count = samples.size();
  if (samples.empty()) return spread;
  std::ranges::sort(samples);
  spread.mean =
      std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
  spread.min = samples.front();
  spread.p50 = percentile(samples, 50);
  spread.p90 = percentile(samples, 90);
  spread.p99 = percentile(samples, 99);
  spread.max = samples.back();
  return spread;
}

void GroupedSamples::sort() {
  std::ranges::sort(samples_, {}, &Sample::value);
}

double GroupedSamples::percentile(double percent, std::span<const std::uint32_t> weights) const {
  std::uint64_t total = 0;
  for (const Sample& sample : samples_) total += weights[sample.group];
  if (total == 0) return 0;
  const std::uint64_t rank = nearest_rank(percent, total);
  std::uint64_t passed = 0;
  for (const Sample& sample : samples_) {
    passed += weights[sample.group];
    if (passed >= rank) return sample.value;
  }
  return samples_.back().value;
}

std::vector<std::uint32_t> draw_weights(std::size_t n, Random& random) {
  std::vector<std::uint32_t> weights(n, 0);
  for (std::size_t i = 0; i < n; ++i) ++weights[random.below(n)];
  return weights;
}

Interval bootstrap_interval(int resamples, const std::function<double()>& draw) {
  std::vector<double> values;
  for (int i = 0; i < resamples; ++i) {
    const double value = draw();
    if (std::isfinite(value)) values.push_back(value);
  }
  if (values.empty()) return {};
  std::ranges::sort(values);
  return {percentile(values, 2.5), percentile(values, 97.5)};
}

double geometric_mean(std::span<const double> factors) {
  if (factors.empty()) return 0;
  double sum = 0;
  for (const double factor : factors) sum += std::log(factor);
  return std::exp(sum / static_cast<double>(factors.size()));
}

}  // namespace moeopt::bench
