#include "routing/expert_counts.h"

#include <gtest/gtest.h>

namespace moeopt {
namespace {

TEST(ExpertCounts, SumsStepsAndSkipsDenseLayers) {
  ExpertCounts counts({4, 0, 2});
  EXPECT_EQ(counts.max_experts(), 4);
  const std::vector<std::uint32_t> step = {1, 2, 3, 0, 0, 0, 0, 0, 5, 5, 0, 0};
  counts.add(step);
  counts.add(step);
  EXPECT_EQ(counts.total(), 32u);
  EXPECT_EQ(std::vector<std::uint64_t>(counts.layer(0).begin(), counts.layer(0).end()),
            (std::vector<std::uint64_t>{2, 4, 6, 0}));
  EXPECT_TRUE(counts.layer(1).empty());
  EXPECT_EQ(counts.layer(2).size(), 2u);
  EXPECT_DOUBLE_EQ(counts.imbalance(0), 2.0);
  EXPECT_DOUBLE_EQ(counts.imbalance(1), 0.0);
  EXPECT_DOUBLE_EQ(counts.imbalance(2), 1.0);
  EXPECT_EQ(counts.n_used(0), 3);
  counts.reset();
  EXPECT_EQ(counts.total(), 0u);
  EXPECT_DOUBLE_EQ(counts.imbalance(0), 0.0);
}

TEST(ExpertCountsDeathTest, RefusesAnotherModelsCounts) {
  ExpertCounts counts({4, 4});
  EXPECT_DEATH(counts.add(std::vector<std::uint32_t>(7)), "step.size");
}

}  // namespace
}  // namespace moeopt
