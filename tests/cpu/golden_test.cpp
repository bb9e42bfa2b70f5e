// The reference backend against Transformers, on every golden checkpoint.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cpu/golden_util.h"
#include "cpu/recording_ops.h"
#include "cpu/runner_util.h"
#include "golden_test_name.h"

namespace moeopt::cpu {
namespace {

constexpr double kTolerance = 1e-4;  // of a position's largest logit, and of its norm

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  GoldenTest() : golden_(load_golden(GetParam())), model_(load_model(golden_.folder)) {
    const int length = static_cast<int>(golden_.prompt.size() + golden_.greedy.size());
    limits_ = small_limits(1, length, 4, (length + 3) / 4);
    backend_ = std::make_unique<CpuBackend>(
        model_.spec, *model_.source, limits_,
        std::make_unique<RecordingOps>(make_reference_ops(), routing_));
    table_ = plain_table(limits_);
  }

  Golden golden_;
  LoadedModel model_;
  ExecutionLimits limits_;
  std::vector<RecordedRouting> routing_;
  std::unique_ptr<CpuBackend> backend_;
  std::vector<std::int32_t> table_;
};

TEST_P(GoldenTest, LogitsOfEveryPositionAreTransformers) {
  const auto logits = logits_of(*backend_, 0, golden_.prompt, 0, table_);
  ASSERT_EQ(golden_.vocab, model_.spec.vocab);
  ASSERT_EQ(logits.size(), golden_.logits.size());
  const auto vocab = static_cast<std::size_t>(golden_.vocab);
  for (std::size_t position = 0; position < golden_.prompt.size(); ++position) {
    double largest = 0, largest_error = 0, norm = 0, error_norm = 0;
    for (std::size_t i = position * vocab; i < (position + 1) * vocab; ++i) {
      const double wanted = golden_.logits[i];
      const double error = logits[i] - wanted;
      largest = std::max(largest, std::fabs(wanted));
      largest_error = std::max(largest_error, std::fabs(error));
      norm += wanted * wanted;
      error_norm += error * error;
    }
    ASSERT_GT(largest, 0.1) << "a golden of nothing";
    EXPECT_LE(largest_error, kTolerance * largest) << "position " << position;
    EXPECT_LE(std::sqrt(error_norm), kTolerance * std::sqrt(norm)) << "position " << position;
  }
}

TEST_P(GoldenTest, RoutesAsTransformers) {
  logits_of(*backend_, 0, golden_.prompt, 0, table_);
  std::size_t call = 0;
  for (std::size_t layer = 0; layer < golden_.routing.size(); ++layer) {
    const GoldenLayer& wanted = golden_.routing[layer];
    ASSERT_EQ(wanted.experts.empty(), !model_.spec.layers[layer].moe.has_value());
    if (wanted.experts.empty()) continue;
    ASSERT_LT(call, routing_.size());
    const RecordedRouting& got = routing_[call++];
    const auto top_k = static_cast<std::size_t>(got.top_k);
    for (std::size_t position = 0; position < golden_.prompt.size(); ++position) {
      std::vector<std::pair<std::int32_t, float>> slots;
      for (std::size_t slot = position * top_k; slot < (position + 1) * top_k; ++slot) {
        slots.emplace_back(got.experts[slot], got.weights[slot]);
      }
      std::ranges::sort(slots);
      ASSERT_EQ(slots.size(), wanted.experts[position].size());
      for (std::size_t slot = 0; slot < slots.size(); ++slot) {
        EXPECT_EQ(slots[slot].first, wanted.experts[position][slot])
            << "layer " << layer << " position " << position;
        EXPECT_NEAR(slots[slot].second, wanted.weights[position][slot],
                    1e-4 * wanted.weights[position][slot] + 2e-7)
            << "layer " << layer << " position " << position;
      }
    }
  }
  EXPECT_EQ(call, routing_.size());
}

TEST_P(GoldenTest, GreedyIdsAreTransformers) {
  EXPECT_EQ(
      greedy_ids(*backend_, 0, golden_.prompt, static_cast<int>(golden_.greedy.size()), table_),
      golden_.greedy);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest, testing::ValuesIn(golden_names()), golden_test_name);

}  // namespace
}  // namespace moeopt::cpu
