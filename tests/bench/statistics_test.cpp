#include "bench/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

namespace moeopt::bench {
namespace {

std::vector<double> up_to(int n) {
  std::vector<double> values(static_cast<std::size_t>(n));
  std::iota(values.begin(), values.end(), 1.0);
  return values;
}

TEST(Percentile, IsTheNearestRank) {
  // The closed form on 1..n: the value at rank ceil(p n / 100) is that rank.
  for (const int n : {1, 2, 3, 7, 10, 99, 100, 101, 1000}) {
    const auto values = up_to(n);
    for (int percent = 1; percent <= 100; ++percent) {
      EXPECT_EQ(percentile(values, percent), (percent * n + 99) / 100) << n << " " << percent;
    }
  }
  EXPECT_EQ(percentile(up_to(40), 2.5), 1);
  EXPECT_EQ(percentile(up_to(1000), 97.5), 975);
}

TEST(Spread, OfKnownSamplesInAnyOrder) {
  std::vector<double> values = up_to(200);
  std::reverse(values.begin(), values.end());
  std::swap(values[3], values[150]);
  const Spread spread = spread_of(values);
  EXPECT_EQ(spread.count, 200u);
  EXPECT_DOUBLE_EQ(spread.mean, 100.5);
  EXPECT_EQ(spread.min, 1);
  EXPECT_EQ(spread.p50, 100);
  EXPECT_EQ(spread.p90, 180);
  EXPECT_EQ(spread.p99, 198);
  EXPECT_EQ(spread.max, 200);
  EXPECT_EQ(spread_of({}).count, 0u);
  EXPECT_EQ(spread_of({3}).p99, 3);
}

TEST(GroupedSamples, WeighAsIfWrittenOutThatOften) {
  Random random(5);
  for (int trial = 0; trial < 50; ++trial) {
    constexpr std::size_t kGroups = 6;
    GroupedSamples grouped;
    std::vector<std::pair<double, std::size_t>> samples;
    for (int i = 0; i < 40; ++i) {
      samples.emplace_back(static_cast<double>(random.below(20)), random.below(kGroups));
      grouped.add(samples.back().first, samples.back().second);
    }
    grouped.sort();
    std::vector<std::uint32_t> weights(kGroups);
    for (auto& weight : weights) weight = static_cast<std::uint32_t>(random.below(4));
    std::vector<double> written_out;
    for (const auto& [value, group] : samples) {
      written_out.insert(written_out.end(), weights[group], value);
    }
    std::ranges::sort(written_out);
    for (const double percent : {1.0, 50.0, 90.0, 99.0, 100.0}) {
      EXPECT_EQ(grouped.percentile(percent, weights),
                written_out.empty() ? 0 : percentile(written_out, percent));
    }
  }
}

TEST(DrawWeights, DrawAsManyAsThereAre) {
  Random random(1);
  const auto weights = draw_weights(1000, random);
  EXPECT_EQ(std::accumulate(weights.begin(), weights.end(), 0u), 1000u);
  // The share that is not drawn goes to 1/e.
  EXPECT_NEAR(static_cast<double>(std::ranges::count(weights, 0u)) / 1000, std::exp(-1.0), 0.05);
}

TEST(Bootstrap, IntervalOfAMeanIsTheNormalOne) {
  // 400 samples of mean 10, deviation 2: the mean's 95% interval is 1.96 x 2 / 20 to each side.
  Random random(3);
  std::vector<double> samples;
  for (int i = 0; i < 400; ++i) samples.push_back(10 + 2 * random.normal());
  const Spread spread = spread_of(samples);
  double squares = 0;
  for (const double sample : samples) squares += (sample - spread.mean) * (sample - spread.mean);
  const double expected = 1.96 * std::sqrt(squares / 400) / 20;
  const Interval interval = bootstrap_interval(4000, [&] {
    const auto weights = draw_weights(samples.size(), random);
    double sum = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) sum += weights[i] * samples[i];
    return sum / 400;
  });
  EXPECT_NEAR(spread.mean - interval.low, expected, expected * 0.1);
  EXPECT_NEAR(interval.high - spread.mean, expected, expected * 0.1);
  EXPECT_TRUE(interval.contains(spread.mean));
}

TEST(Bootstrap, LeavesOutWhatIsNotFinite) {
  int calls = 0;
  const Interval interval = bootstrap_interval(100, [&] { return ++calls % 2 == 0 ? 3.0 : NAN; });
  EXPECT_EQ(interval.low, 3);
  EXPECT_EQ(interval.high, 3);
  EXPECT_EQ(bootstrap_interval(10, [] { return INFINITY; }).high, 0);
}

TEST(GeometricMean, OfFactors) {
  EXPECT_DOUBLE_EQ(geometric_mean(std::vector{2.0, 0.5}), 1);
  EXPECT_DOUBLE_EQ(geometric_mean(std::vector{1.0, 10.0, 100.0}), 10);
  EXPECT_EQ(geometric_mean({}), 0);
}

TEST(Random, IsTheStandardsEngine) {
  // The engine's 10000th value for its default seed is in the C++ standard; below(2^63) keeps the
  // draw's low bits or draws again.
  Random random(std::mt19937_64::default_seed);
  std::mt19937_64 engine;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(random.uniform(), static_cast<double>(engine() >> 11) / 9007199254740992.0);
  }
}

TEST(Random, HasTheMomentsOfItsDistributions) {
  Random random(11);
  constexpr int kDraws = 200'000;
  double uniform = 0, normal = 0, squares = 0, exponential = 0;
  std::vector<int> below(7);
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    uniform += u;
    const double n = random.normal();
    normal += n;
    squares += n * n;
    exponential += random.exponential();
    ++below[random.below(7)];
  }
  EXPECT_NEAR(uniform / kDraws, 0.5, 0.005);
  EXPECT_NEAR(normal / kDraws, 0, 0.01);
  EXPECT_NEAR(squares / kDraws, 1, 0.02);
  EXPECT_NEAR(exponential / kDraws, 1, 0.01);
  for (const int count : below) EXPECT_NEAR(count, kDraws / 7.0, 600);
}

}  // namespace
}  // namespace moeopt::bench
