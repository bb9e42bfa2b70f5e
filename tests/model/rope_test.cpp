// Scaling rules at the sizes of real models, against what Transformers 5.17 computes there.
#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "model/model_util.h"

namespace moeopt {
namespace {

struct Point {
  std::size_t pair;
  double frequency;
};

struct Rule {
  const char* name;
  const char* config;
  int dim;
  std::int64_t max_position;
  double magnitude;
  double softmax_mscale;
  std::vector<Point> points;
};

constexpr double kMscale40 = 1.3688879454113937;  // 0.1 ln 40 + 1

const std::vector<Rule>& rules() {
  static const std::vector<Rule> all_rules = {
      {"qwen3_yarn",
       R"({"rope_theta": 1e6, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
           "original_max_position_embeddings": 32768}})",
       128,
       131072,
       1.138629436111989,
       1.0,
       {{0, 1},
        {16, 0.031622779},
        {28, 0.0018482766},
        {32, 0.00060294115},
        {37, 0.00012993149},
        {48, 7.9056936e-06},
        {63, 3.1023444e-07}}},
      {"yarn_with_every_field",
       R"({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0,
           "original_max_position_embeddings": 32768, "truncate": false, "attention_factor": 0.75,
           "beta_fast": 16, "beta_slow": 2}})",
       128,
       131072,
       0.75,
       1.0,
       {{16, 0.031622779}, {28, 0.0021510983}, {32, 0.00059567997}, {37, 8.4955209e-05}}},
      {"llama3",
       R"({"rope_theta": 5e5, "rope_scaling": {"type": "llama3", "factor": 8.0,
           "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}})",
       128,
       131072,
       1.0,
       1.0,
       {{16, 0.037606031},
        {28, 0.0032114461},
        {32, 0.00052484602},
        {37, 6.3415144e-05},
        {63, 3.0689259e-07}}},
      {"linear",
       R"({"rope_scaling": {"type": "linear", "factor": 2.5}})",
       128,
       8192,
       1.0,
       1.0,
       {{0, 0.4}, {28, 0.0071131177}, {63, 4.6191279e-05}}},
      {"deepseek_v3",
       R"({"rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32,
           "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
           "original_max_position_embeddings": 4096}})",
       64,
       163840,
       1.0,
       kMscale40 * kMscale40,
       {{8, 0.1},
        {12, 0.026879361},
        {16, 0.0055000004},
        {21, 0.00041499041},
        {24, 2.5e-05},
        {31, 3.3338035e-06}}},
      {"yarn_factor_from_positions",
       R"({"rope_theta": 10000, "rope_scaling": {"type": "yarn", "mscale": 0.707,
           "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}})",
       64,
       163840,
       0.9210423553163399,
       kMscale40 * kMscale40,
       {{16, 0.0055000004}, {21, 0.00041499041}}},
  };
  return all_rules;
}

TEST(Rope, ScalesAsTransformersDoes) {
  for (const Rule& rule : rules()) {
    SCOPED_TRACE(rule.name);
    const Json config = Json::parse(rule.config);
    const RopeReading reading =
        read_rope(ConfigReader(config, "config.json"), rule.dim, 10000.0, rule.max_position);
    EXPECT_FALSE(reading.unsupported.has_value());
    ASSERT_EQ(reading.rope.dim(), rule.dim);
    EXPECT_NEAR(reading.rope.magnitude, rule.magnitude, 1e-12);
    EXPECT_NEAR(reading.softmax_mscale, rule.softmax_mscale, 1e-12);
    for (const Point& point : rule.points) {
      EXPECT_NEAR(reading.rope.inverse_frequencies[point.pair] / point.frequency, 1.0, 2e-6)
          << "pair " << point.pair;
    }
  }
}

TEST(Rope, ThePlainRuleIsPowersOfTheBase) {
  const Json config = {{"rope_theta", 500.0}};
  const RopeReading reading = read_rope(ConfigReader(config, "config.json"), 6, 10000.0, 4096);
  ASSERT_EQ(reading.rope.inverse_frequencies.size(), 3u);
  EXPECT_DOUBLE_EQ(reading.rope.inverse_frequencies[0], 1.0);
  EXPECT_NEAR(reading.rope.inverse_frequencies[1], 1 / std::cbrt(500.0), 1e-15);
  EXPECT_DOUBLE_EQ(reading.rope.magnitude, 1.0);
}

}  // namespace
}  // namespace moeopt
