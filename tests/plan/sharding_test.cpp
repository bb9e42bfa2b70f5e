#include "plan/sharding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/plan_util.h"

namespace moeopt {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Sharding, CountsThatDivideTheModel) {
  EXPECT_THAT(working_rank_counts(test::known_spec("Mixtral-8x7B-v0.1"), 8),
              ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(working_rank_counts(test::known_spec("Qwen1.5-MoE-A2.7B"), 8), ElementsAre(1, 2, 4))
      << "60 experts, 16 heads";
  EXPECT_THAT(working_rank_counts(test::known_spec("Qwen3-235B-A22B"), 8), ElementsAre(1, 2, 4, 8))
      << "4 KV heads: each on two of eight GPUs";
  EXPECT_THAT(working_rank_counts(test::known_spec("DeepSeek-V3"), 8), ElementsAre(1, 2, 4, 8));
}

TEST(Sharding, SaysWhatDoesNotDivide) {
  EXPECT_EQ(against_ranks(test::known_spec("Qwen1.5-MoE-A2.7B"), 8),
            "60 experts do not divide by 8");
  EXPECT_EQ(against_ranks(test::known_spec("Qwen1.5-MoE-A2.7B"), 3),
            "16 attention heads do not divide by 3");
  const ModelSpec six_kv = test::tiny_spec(
      {{"num_attention_heads", "12"}, {"num_key_value_heads", "6"}, {"hidden_size", "192"}});
  EXPECT_EQ(against_ranks(six_kv, 4), "6 KV heads do not divide by 4");
}

TEST(Sharding, Fp8BlocksAreNeverCut) {
  ModelSpec spec = test::tiny_spec({{"num_attention_heads", "8"},
                                    {"num_key_value_heads", "8"},
                                    {"head_dim", "64"},
                                    {"hidden_size", "512"}});
  EXPECT_EQ(against_ranks(spec, 8), std::nullopt);
  spec.quantisation = Quantisation::kFp8Block128;
  EXPECT_THAT(against_ranks(spec, 8).value_or(""),
              HasSubstr("64 rows of q a GPU cut an fp8 block"));
  EXPECT_EQ(against_ranks(spec, 4), std::nullopt);
}

// The parts of each role's matrix, all ranks together, are the whole, or its copies.
TEST(Sharding, PartsMakeTheWhole) {
  const ModelSpec spec = test::known_spec("Qwen3-30B-A3B");
  for (const WeightSpec& weight : weights_of(spec)) {
    if (weight.layer > 0 || weight.expert > 0) continue;
    const std::int64_t part = shard_of(spec, weight, 4).shape.elements();
    switch (weight.role) {
      case WeightRole::kEmbedding:
      case WeightRole::kLmHead:
      case WeightRole::kQ:
      case WeightRole::kK:
      case WeightRole::kV:
      case WeightRole::kO:
        EXPECT_EQ(part * 4, weight.shape.elements()) << weight.name;
        break;
      default:
        EXPECT_EQ(part, weight.shape.elements()) << weight.name;
    }
  }
}

TEST(Sharding, KvHeadsAreCopiedWhenThereAreFewer) {
  const ModelSpec spec = test::known_spec("Qwen3-30B-A3B");  // 4 KV heads of 128
  const std::vector<WeightSpec> weights = weights_of(spec);
  const auto k = std::ranges::find(weights, WeightRole::kK, &WeightSpec::role);
  EXPECT_EQ(shard_of(spec, *k, 8).shape, (Shape{128, 2048}));
  EXPECT_EQ(shard_of(spec, *k, 2).shape, (Shape{256, 2048}));
  EXPECT_EQ(shard_of(spec, *k, 8).transform, "rows, 1 of 4 KV heads");
}

TEST(Sharding, SharedExpertsAreCutOnlyInWholeBlocks) {
  const ModelSpec v3 = test::known_spec("DeepSeek-V3");  // shared 2048, dense 18432
  const std::vector<WeightSpec> weights = weights_of(v3);
  const auto shared = std::ranges::find(weights, WeightRole::kSharedDown, &WeightSpec::role);
  EXPECT_EQ(shard_of(v3, *shared, 8).shape, (Shape{7168, 256}));
  const auto dense = std::ranges::find(weights, WeightRole::kDenseUp, &WeightSpec::role);
  EXPECT_EQ(shard_of(v3, *dense, 8).shape, (Shape{2304, 7168}));
  const ModelSpec v2 = test::known_spec("DeepSeek-V2-Lite");  // dense 10944, not fp8
  const std::vector<WeightSpec> lite = weights_of(v2);
  const auto lite_dense = std::ranges::find(lite, WeightRole::kDenseUp, &WeightSpec::role);
  EXPECT_EQ(shard_of(v2, *lite_dense, 8).shape, (Shape{1368, 2048}));
}

}  // namespace
}  // namespace moeopt
