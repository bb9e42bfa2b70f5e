#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "base/error.h"
#include "routing/log_statistics.h"
#include "routing/routing_util.h"

namespace moeopt {
namespace {

TEST(Balance, HasItsClosedForms) {
  const std::vector<double> even(64, 10.0);
  const Balance uniform = balance_of(even);
  EXPECT_DOUBLE_EQ(uniform.max_over_mean, 1.0);
  EXPECT_NEAR(uniform.gini, 0.0, 1e-12);
  EXPECT_NEAR(uniform.entropy_bits, 6.0, 1e-12);
  EXPECT_NEAR(uniform.variation, 0.0, 1e-12);
  EXPECT_EQ(uniform.used, 64);

  std::vector<double> one(64, 0.0);
  one[17] = 1000;
  const Balance hot = balance_of(one);
  EXPECT_DOUBLE_EQ(hot.max_over_mean, 64.0);
  EXPECT_NEAR(hot.gini, 63.0 / 64.0, 1e-12);
  EXPECT_NEAR(hot.entropy_bits, 0.0, 1e-12);
  EXPECT_NEAR(hot.variation, std::sqrt(63.0), 1e-12);
  EXPECT_EQ(hot.used, 1);
  EXPECT_EQ(hot.busiest, 17);

  // Zipf with exponent 1 over n: the largest share is 1 / H(n); Gini is (n + 1 - 2 n / H(n) ...
  // from its definition, summed here the other way round.
  std::vector<double> zipf(100);
  double harmonic = 0;
  for (std::size_t i = 0; i < 100; ++i) {
    zipf[i] = 1.0 / static_cast<double>(i + 1);
    harmonic += zipf[i];
  }
  double differences = 0;
  double entropy = 0;
  for (const double a : zipf) {
    for (const double b : zipf) differences += std::fabs(a - b);
    entropy -= a / harmonic * std::log2(a / harmonic);
  }
  const Balance skewed = balance_of(zipf);
  EXPECT_NEAR(skewed.max_over_mean, 100 / harmonic, 1e-9);
  EXPECT_NEAR(skewed.gini, differences / (2 * 100 * harmonic), 1e-9);
  EXPECT_NEAR(skewed.entropy_bits, entropy, 1e-9);

  EXPECT_EQ(balance_of(std::vector<double>(8, 0.0)).used, 0);
  EXPECT_EQ(balance_of({}).max_over_mean, 0);
}

TEST(Statistics, CountTokensTimesTopKInEveryLayerAndPhase) {
  const RoutingHeader header = small_header(16, 3, {0, 2, 5});
  const TemporaryFile a("a"), b("b");
  std::vector<RequestRoutes> requests;
  for (unsigned i = 0; i < 20; ++i) requests.push_back(random_request(header, "r", 10, 7, i));
  requests[3].spans[1].replayed = true;
  std::ofstream(a.path(), std::ios::binary)
      << encoded(LogFormat::kBinary, header, {requests.begin(), requests.begin() + 10});
  std::ofstream(b.path(), std::ios::binary)
      << encoded(LogFormat::kJsonl, header, {requests.begin() + 10, requests.end()});
  const std::filesystem::path files[] = {a.path(), b.path()};
  const auto sum = [](const std::vector<double>& rows) {
    return std::accumulate(rows.begin(), rows.end(), 0.0);
  };
  for (const auto& [phase, tokens] :
       {std::pair{RoutePhase::kUnknown, 20 * 17 - 7}, std::pair{RoutePhase::kPrefill, 200},
        std::pair{RoutePhase::kDecode, 20 * 7 - 7}}) {
    StatisticsOptions options;
    options.phase = phase;
    options.windows = 4;
    options.together = true;
    const LogStatistics log = read_statistics(files, options);
    EXPECT_EQ(log.counted.tokens, static_cast<std::uint64_t>(tokens));
    EXPECT_EQ(log.counted.requests, 20u);
    EXPECT_EQ(log.counted.replayed_tokens, 7u);
    ASSERT_EQ(log.layers.size(), 3u);
    for (const LayerCounts& layer : log.layers) {
      EXPECT_EQ(sum(layer.total()), tokens * 3.0);
      for (const auto& window : layer.windows) EXPECT_NEAR(sum(window), tokens * 3.0 / 4, 3.0);
      const double pairs = std::accumulate(layer.together.begin(), layer.together.end(), 0.0);
      EXPECT_EQ(pairs, (tokens + 1) / 2 * 6.0);  // of the first half, both ways round
    }
  }
  const TemporaryFile other("other");
  std::ofstream(other.path(), std::ios::binary) << encoded(LogFormat::kJsonl, small_header(), {});
  const std::filesystem::path mixed[] = {a.path(), other.path()};
  EXPECT_THROW(read_statistics(mixed, {}), Error);
}

}  // namespace
}  // namespace moeopt
