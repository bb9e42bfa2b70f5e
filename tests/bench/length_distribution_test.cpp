#include "bench/length_distribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "bench/statistics.h"

namespace moeopt::bench {
namespace {

LengthDistribution parse(std::string_view text) {
  return LengthDistribution::parse(text, "--prompt-tokens");
}

std::vector<double> draws(std::string_view text, int n, std::uint64_t seed = 7) {
  const LengthDistribution lengths = parse(text);
  Random random(seed);
  std::vector<double> values;
  for (int i = 0; i < n; ++i) values.push_back(lengths.draw(random));
  return values;
}

TEST(LengthDistribution, OneNumberIsAlwaysThat) {
  EXPECT_THAT(draws("128", 20), testing::Each(128));
  EXPECT_EQ(parse("128").text(), "128");
}

TEST(LengthDistribution, UniformHasBothEndsAndNothingElse) {
  const auto values = draws("uniform:3-6", 4000);
  EXPECT_EQ(std::set<double>(values.begin(), values.end()), (std::set<double>{3, 4, 5, 6}));
  for (const double value : {3.0, 4.0, 5.0, 6.0}) {
    EXPECT_NEAR(static_cast<double>(std::ranges::count(values, value)), 1000, 120);
  }
}

TEST(LengthDistribution, NormalHasItsMeanAndDeviation) {
  const auto values = draws("normal:200,25", 20000);
  double squares = 0;
  for (const double value : values) squares += (value - 200) * (value - 200);
  EXPECT_NEAR(spread_of(values).mean, 200, 0.6);
  EXPECT_NEAR(std::sqrt(squares / 20000), 25, 0.5);
}

TEST(LengthDistribution, LognormalHasItsMedianAndTail) {
  const Spread spread = spread_of(draws("lognormal:100,0.5", 20000));
  EXPECT_NEAR(spread.p50, 100, 1.5);
  EXPECT_NEAR(spread.mean, 100 * std::exp(0.125), 1.5);      // exp(sigma^2 / 2)
  EXPECT_NEAR(spread.p90, 100 * std::exp(0.5 * 1.2816), 4);  // the normal's 90% point
}

TEST(LengthDistribution, BoundsClamp) {
  for (const double value : draws("normal:100,500@10-150", 2000)) {
    EXPECT_GE(value, 10);
    EXPECT_LE(value, 150);
  }
  EXPECT_EQ(spread_of(draws("normal:1,100", 2000)).min, 1);
  EXPECT_EQ(spread_of(draws("lognormal:1000000,900", 200)).max, 1'000'000);
}

TEST(LengthDistribution, ASeedGivesTheSameLengths) {
  for (const char* text : {"uniform:1-1000", "normal:100,30", "lognormal:100,1@1-4000"}) {
    EXPECT_EQ(draws(text, 50, 3), draws(text, 50, 3));
    EXPECT_NE(draws(text, 50, 3), draws(text, 50, 4));
  }
  // Written down, so that a change of the draws does not pass for the same workload.
  EXPECT_EQ(draws("uniform:1-1000", 5, 1), (std::vector<double>{529, 463, 931, 247, 385}));
}

TEST(LengthDistribution, RefusesWhatItDoesNotUnderstand) {
  for (const char* text : {"",
                           "0",
                           "-3",
                           "1.5",
                           "12a",
                           "1000001",
                           "99999999999",
                           "uniform",
                           "uniform:",
                           "uniform:5",
                           "uniform:6-5",
                           "uniform:0-5",
                           "uniform:1-2-3",
                           "normal:5",
                           "normal:5,",
                           "normal:,5",
                           "normal:0,5",
                           "normal:5,-1",
                           "normal:nan,1",
                           "normal:5,nan",
                           "normal:5,inf",
                           "normal:5,1@",
                           "normal:5,1@9",
                           "normal:5,1@9-8",
                           "lognormal:5,1,2",
                           "zipf:1,2",
                           ":1",
                           "uniform:1-5@1-3",
                           " 5"}) {
    try {
      parse(text);
      ADD_FAILURE() << "accepted " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_THAT(error.what(), testing::StartsWith("--prompt-tokens: "));
      EXPECT_THAT(error.hint(), testing::HasSubstr("uniform:64-256"));
    }
  }
}

}  // namespace
}  // namespace moeopt::bench
