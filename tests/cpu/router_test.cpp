// route(): hand-made rows, each for one rule.
#include "cpu/reference/router.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace moeopt::cpu::reference {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

MoeSpec spec_of(int experts, int top_k, RouterScore score) {
  MoeSpec spec;
  spec.n_experts = experts;
  spec.top_k = top_k;
  spec.router.score = score;
  return spec;
}

struct Choice {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Choice choose(const MoeSpec& spec, const std::vector<float>& logits,
              const std::vector<float>& bias = {}) {
  Choice choice{std::vector<std::int32_t>(static_cast<std::size_t>(spec.top_k)),
                std::vector<float>(static_cast<std::size_t>(spec.top_k))};
  std::vector<float> scratch(route_scratch(spec), kNan);
  route<float>(logits, spec, bias, scratch, choice.ids, choice.weights);
  return choice;
}

using Ids = std::vector<std::int32_t>;

float sigmoid(float x) {
  return 1 / (1 + std::exp(-x));
}

TEST(Router, TiesGoToTheLowerId) {
  for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    EXPECT_EQ(choose(spec_of(6, 3, score), {1, 2, 1, 2, 1, 2}).ids, (Ids{1, 3, 5}));
    EXPECT_EQ(choose(spec_of(6, 4, score), {1, 2, 1, 2, 1, 2}).ids, (Ids{1, 3, 5, 0}));
    EXPECT_EQ(choose(spec_of(4, 2, score), {0, 0, 0, 0}).ids, (Ids{0, 1}));
  }
}

TEST(Router, WeightsSumToTheScaleWhenRenormalised) {
  MoeSpec spec = spec_of(4, 2, RouterScore::kSoftmax);
  const Choice half = choose(spec, {0, 0, -50, -50});
  EXPECT_FLOAT_EQ(half.weights[0], 0.5f);
  EXPECT_FLOAT_EQ(half.weights[1], 0.5f);
  spec.router.scale = 3;
  const Choice scaled = choose(spec, {std::log(3.0f), 0, -1, -2});
  EXPECT_FLOAT_EQ(scaled.weights[0], 2.25f);
  EXPECT_FLOAT_EQ(scaled.weights[1], 0.75f);
  spec.router.renormalise = false;
  const Choice raw = choose(spec, {std::log(3.0f), 0, 0, 0});
  EXPECT_FLOAT_EQ(raw.weights[0], 1.5f);
  EXPECT_FLOAT_EQ(raw.weights[1], 0.5f);
}

TEST(Router, EpsilonIsAddedToTheSum) {
  MoeSpec spec = spec_of(2, 1, RouterScore::kSigmoid);
  spec.router.renormalise_epsilon = 0.5;
  EXPECT_FLOAT_EQ(choose(spec, {0, -5}).weights[0], 0.5f);  // 0.5 / (0.5 + 0.5)
}

TEST(Router, BiasSelectsAndNeverWeighs) {
  MoeSpec spec = spec_of(4, 2, RouterScore::kSigmoid);
  spec.router.renormalise = false;
  const Choice choice = choose(spec, {3, 2, 1, 0}, {0, 0, 0, 5});
  EXPECT_EQ(choice.ids, (Ids{3, 0}));
  EXPECT_FLOAT_EQ(choice.weights[0], sigmoid(0));
  EXPECT_FLOAT_EQ(choice.weights[1], sigmoid(3));
}

TEST(Router, GroupsByTheirBestOrByTheirBestTwo) {
  MoeSpec spec = spec_of(6, 2, RouterScore::kSigmoid);
  spec.router.n_groups = 3;
  // Group 0 has the best expert, group 1 the best two.
  const std::vector<float> logits = {4, -9, 1, 1, -9, -9};
  spec.router.group_score = GroupScore::kMax;
  EXPECT_EQ(choose(spec, logits).ids, (Ids{0, 1}));
  spec.router.group_score = GroupScore::kTopTwoSum;
  EXPECT_EQ(choose(spec, logits).ids, (Ids{2, 3}));
  spec.router.top_k_groups = 2;
  EXPECT_EQ(choose(spec, logits).ids, (Ids{0, 2}));
}

TEST(Router, EqualGroupsGoToTheLower) {
  MoeSpec spec = spec_of(6, 2, RouterScore::kSoftmax);
  spec.router.n_groups = 3;
  EXPECT_EQ(choose(spec, {0, 1, 1, 0, 1, 0}).ids, (Ids{1, 0}));
}

TEST(Router, BiasCountsForGroups) {
  MoeSpec spec = spec_of(4, 1, RouterScore::kSigmoid);
  spec.router.n_groups = 2;
  EXPECT_EQ(choose(spec, {2, 0, 1, 0}).ids, (Ids{0}));
  EXPECT_EQ(choose(spec, {2, 0, 1, 0}, {0, 0, 0, 1}).ids, (Ids{3}));
}

TEST(Router, NanIsTheWorstLogit) {
  for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    const Choice choice = choose(spec_of(4, 2, score), {kNan, -3, kNan, -2});
    EXPECT_EQ(choice.ids, (Ids{3, 1}));
    EXPECT_NEAR(choice.weights[0] + choice.weights[1], 1, 1e-6);
    // More slots than numbers: the lower NaN, which weighs nothing.
    const Choice three = choose(spec_of(4, 3, score), {kNan, -3, kNan, -2});
    EXPECT_EQ(three.ids, (Ids{3, 1, 0}));
    EXPECT_EQ(three.weights[2], 0);
  }
}

TEST(Router, NanIsWorseThanTheWorstNumber) {
  // A probability that underflows to zero, and a bias below zero, still come first.
  EXPECT_EQ(choose(spec_of(3, 2, RouterScore::kSoftmax), {kNan, -200, 0}).ids, (Ids{2, 1}));
  EXPECT_EQ(choose(spec_of(3, 2, RouterScore::kSigmoid), {kNan, 1, 2}, {0, -5, -5}).ids,
            (Ids{2, 1}));
}

TEST(Router, ARowOfNanShows) {
  for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    const Choice choice = choose(spec_of(3, 2, score), {kNan, kNan, kNan});
    EXPECT_EQ(choice.ids, (Ids{0, 1}));
    EXPECT_TRUE(std::isnan(choice.weights[0]));
  }
}

TEST(Router, HostileBiasesEndNothing) {
  MoeSpec spec = spec_of(6, 2, RouterScore::kSigmoid);
  spec.router.n_groups = 3;
  spec.router.group_score = GroupScore::kTopTwoSum;
  EXPECT_EQ(choose(spec, {1, 2, 3, 4, 5, 6}, {kNan, kInf, -kInf, kInf, -kInf, -kInf}).ids.size(),
            2u);
  EXPECT_EQ(choose(spec, {1, 2, 3, 4, 5, 6}, std::vector<float>(6, kNan)).ids, (Ids{0, 1}));
}

TEST(Router, LargeLogitsDoNotOverflow) {
  const Choice choice = choose(spec_of(3, 2, RouterScore::kSoftmax), {1e30f, -1e30f, 1e30f});
  EXPECT_EQ(choice.ids, (Ids{0, 2}));
  EXPECT_FLOAT_EQ(choice.weights[0], 0.5f);
}

}  // namespace
}  // namespace moeopt::cpu::reference
