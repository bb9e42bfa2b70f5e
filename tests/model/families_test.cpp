// What each family's config means, field by field, and what its tensors are called.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/model_util.h"
#include "model/parse.h"

namespace moeopt {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

ModelSpec parse_golden(std::string_view name, const Json& changes = Json::object()) {
  Json config = golden_config(name);
  config.update(changes);
  return parse_model_spec(config, "config.json");
}

std::vector<int> sparse_layers(const ModelSpec& spec) {
  std::vector<int> out;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    if (spec.layers[i].moe) out.push_back(static_cast<int>(i));
  }
  return out;
}

std::vector<std::string> names_of(const ModelSpec& spec) {
  std::vector<std::string> out;
  for (const WeightSpec& weight : weights_of(spec)) out.push_back(weight.name);
  return out;
}

TEST(Families, AreKnownByModelTypeWhenNoArchitectureIsNamed) {
  for (const char* golden : {"qwen3", "qwen2", "mixtral", "deepseek-v2", "deepseek-v3"}) {
    const ModelSpec named = parse_golden(golden);
    const ModelSpec unnamed = parse_golden(golden, {{"architectures", nullptr}});
    EXPECT_EQ(describe(unnamed), describe(named));
  }
}

TEST(Qwen3Moe, ReadsItsFields) {
  const ModelSpec spec = parse_golden("qwen3");
  EXPECT_EQ(spec.family, Family::kQwen3Moe);
  EXPECT_EQ(spec.hidden, 44);
  EXPECT_EQ(spec.vocab, 131);
  EXPECT_THAT(spec.eos_ids, ElementsAre(2));
  EXPECT_EQ(spec.bos_id, 1);
  const AttentionSpec& attention = spec.layers[0].attention;
  EXPECT_EQ(attention.n_heads, 6);
  EXPECT_EQ(attention.n_kv_heads, 2);
  EXPECT_EQ(attention.qk_head_dim, 10);  // not hidden / heads
  EXPECT_TRUE(attention.qk_norm);
  EXPECT_FALSE(attention.qkv_bias);
  EXPECT_DOUBLE_EQ(attention.softmax_scale, 1 / std::sqrt(10.0));
  const MoeSpec& moe = *spec.layers[1].moe;
  EXPECT_EQ(moe.n_experts, 7);
  EXPECT_EQ(moe.top_k, 3);
  EXPECT_EQ(moe.intermediate, 20);
  EXPECT_EQ(moe.shared_intermediate, 0);
  EXPECT_TRUE(moe.router.renormalise);
}

TEST(Qwen3Moe, DenseLayersComeFromStepAndList) {
  const ModelSpec spec = parse_golden("qwen3-dense-layers");
  EXPECT_THAT(sparse_layers(spec), ElementsAre(1, 5));  // step 2 makes 1 3 5, the list takes 3
  EXPECT_EQ(spec.layers[0].dense_intermediate, 36);
  EXPECT_TRUE(spec.tied_embeddings);
  EXPECT_TRUE(spec.layers[0].attention.qkv_bias);
  EXPECT_TRUE(spec.layers[0].attention.o_bias);
  EXPECT_FALSE(spec.layers[1].moe->router.renormalise);
  EXPECT_THAT(names_of(spec), Not(Contains("lm_head.weight")));
  EXPECT_THAT(names_of(spec), Contains("model.layers.2.self_attn.o_proj.bias"));
}

TEST(Qwen3Moe, WindowOnlyWhenAskedFor) {
  EXPECT_FALSE(parse_golden("qwen3", {{"sliding_window", 9}}).layers[0].attention.sliding_window);
  const ModelSpec spec =
      parse_golden("qwen3", {{"sliding_window", 9}, {"use_sliding_window", true}});
  for (const LayerSpec& layer : spec.layers) EXPECT_EQ(layer.attention.sliding_window, 9);
}

TEST(Qwen2Moe, HasAGatedSharedExpertAndBiases) {
  const ModelSpec spec = parse_golden("qwen2");
  EXPECT_EQ(spec.family, Family::kQwen2Moe);
  EXPECT_TRUE(spec.layers[0].attention.qkv_bias);
  EXPECT_FALSE(spec.layers[0].attention.o_bias);
  const MoeSpec& moe = *spec.layers[0].moe;
  EXPECT_EQ(moe.shared_intermediate, 38);
  EXPECT_TRUE(moe.shared_expert_gate);
  EXPECT_FALSE(moe.router.renormalise);
  EXPECT_THAT(names_of(spec), Contains("model.layers.2.mlp.shared_expert_gate.weight"));
  EXPECT_THAT(names_of(spec), Contains("model.layers.2.mlp.shared_expert.up_proj.weight"));
  EXPECT_FALSE(parse_golden("qwen2", {{"qkv_bias", false}}).layers[0].attention.qkv_bias);
}

TEST(Qwen2Moe, WindowsEveryOtherEarlyLayer) {
  const ModelSpec spec =
      parse_golden("qwen2-window", {{"num_hidden_layers", 6}, {"max_window_layers", 4}});
  std::vector<int> windowed;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    if (spec.layers[i].attention.sliding_window) windowed.push_back(static_cast<int>(i));
  }
  EXPECT_THAT(windowed, ElementsAre(0, 2));
}

TEST(Mixtral, NamesItsExpertsByNumber) {
  const ModelSpec spec = parse_golden("mixtral");
  EXPECT_EQ(spec.family, Family::kMixtral);
  EXPECT_EQ(spec.layers[0].attention.sliding_window, 7);
  EXPECT_TRUE(spec.layers[0].moe->router.renormalise);
  const std::string block = "model.layers.1.block_sparse_moe.";
  EXPECT_EQ(weight_name(spec, WeightRole::kRouter, 1), block + "gate.weight");
  EXPECT_EQ(weight_name(spec, WeightRole::kExpertGate, 1, 4), block + "experts.4.w1.weight");
  EXPECT_EQ(weight_name(spec, WeightRole::kExpertUp, 1, 4), block + "experts.4.w3.weight");
  EXPECT_EQ(weight_name(spec, WeightRole::kExpertDown, 1, 4), block + "experts.4.w2.weight");
  EXPECT_FALSE(parse_golden("mixtral", {{"sliding_window", nullptr}})
                   .layers[0]
                   .attention.sliding_window.has_value());
}

TEST(DeepseekV2, ReadsLatentAttentionWithAndWithoutQueryRank) {
  const ModelSpec lite = parse_golden("deepseek-v2-lite");
  EXPECT_EQ(lite.family, Family::kDeepseekV2);
  const AttentionSpec& attention = lite.layers[0].attention;
  EXPECT_EQ(attention.kind, AttentionKind::kMla);
  EXPECT_EQ(attention.q_lora_rank, 0);
  EXPECT_EQ(attention.kv_lora_rank, 18);
  EXPECT_EQ(attention.qk_head_dim, 16);
  EXPECT_EQ(attention.v_head_dim, 14);
  EXPECT_TRUE(lite.rope.interleaved);
  EXPECT_EQ(lite.rope.dim(), 6);
  EXPECT_THAT(names_of(lite), Contains("model.layers.0.self_attn.q_proj.weight"));
  EXPECT_THAT(names_of(lite), Contains("model.layers.1.mlp.shared_experts.down_proj.weight"));
  EXPECT_THAT(sparse_layers(lite), ElementsAre(1, 2));
  EXPECT_EQ(lite.layers[1].moe->shared_intermediate, 2 * 18);

  const ModelSpec full = parse_golden("deepseek-v2");
  EXPECT_EQ(full.layers[0].attention.q_lora_rank, 26);
  EXPECT_THAT(names_of(full), Contains("model.layers.0.self_attn.q_b_proj.weight"));
  EXPECT_THAT(names_of(full), Contains("model.layers.0.self_attn.kv_a_proj_with_mqa.weight"));
}

TEST(DeepseekV2, GroupsOnlyWhenTheMethodSaysSo) {
  const RouterSpec greedy =
      parse_golden("deepseek-v2-lite", {{"n_group", 3}}).layers[1].moe->router;
  EXPECT_EQ(greedy.n_groups, 1);
  const RouterSpec grouped = parse_golden("deepseek-v2").layers[1].moe->router;
  EXPECT_EQ(grouped.n_groups, 3);
  EXPECT_EQ(grouped.top_k_groups, 2);
  EXPECT_EQ(grouped.group_score, GroupScore::kMax);
  EXPECT_EQ(grouped.score, RouterScore::kSoftmax);
  EXPECT_FALSE(grouped.renormalise);
  EXPECT_DOUBLE_EQ(grouped.scale, 3.0);
}

TEST(DeepseekV2, LayerFrequencyThinsTheSparseLayers) {
  const ModelSpec spec =
      parse_golden("deepseek-v2", {{"num_hidden_layers", 8}, {"moe_layer_freq", 3}});
  EXPECT_THAT(sparse_layers(spec), ElementsAre(3, 6));
}

TEST(DeepseekV3, RoutesBySigmoidWithBiasAndGroups) {
  const ModelSpec spec = parse_golden("deepseek-v3");
  EXPECT_EQ(spec.family, Family::kDeepseekV3);
  EXPECT_EQ(spec.layers.size(), 3u);  // the prediction layer behind them is not one
  const RouterSpec& router = spec.layers[2].moe->router;
  EXPECT_EQ(router.score, RouterScore::kSigmoid);
  EXPECT_TRUE(router.correction_bias);
  EXPECT_EQ(router.n_groups, 4);
  EXPECT_EQ(router.top_k_groups, 2);
  EXPECT_EQ(router.group_score, GroupScore::kTopTwoSum);
  EXPECT_TRUE(router.renormalise);
  EXPECT_DOUBLE_EQ(router.renormalise_epsilon, 1e-20);
  EXPECT_DOUBLE_EQ(router.scale, 2.5);
  EXPECT_THAT(names_of(spec), Contains("model.layers.1.mlp.gate.e_score_correction_bias"));
  EXPECT_FALSE(parse_golden("deepseek-v3-one-group").rope.interleaved);
}

TEST(DeepseekV3, ArchitectureDecidesOverModelType) {
  // Kimi-K2 has a model_type of its own and DeepSeek-V3's architecture.
  const ModelSpec spec = parse_golden("deepseek-v3", {{"model_type", "kimi_k2"}});
  EXPECT_EQ(spec.family, Family::kDeepseekV3);
  EXPECT_FALSE(spec.not_runnable.has_value());
}

TEST(Fp8, QuantisesTheMatricesOfTheLayersAlone) {
  const ModelSpec spec = parse_golden("deepseek-v3-fp8");
  EXPECT_EQ(spec.quantisation, Quantisation::kFp8Block128);
  for (const WeightSpec& weight : weights_of(spec)) {
    const bool matrix_of_layer = weight.layer >= 0 && weight.shape.rank() == 2;
    EXPECT_EQ(weight.quantised, matrix_of_layer && weight.role != WeightRole::kRouter)
        << weight.name;
  }
}

TEST(Fp8, LeavesListedModulesAlone) {
  const auto quantised = [](const Json& modules) {
    Json config = golden_config("qwen3-fp8");
    config["quantization_config"]["modules_to_not_convert"] = modules;
    std::vector<std::string> out;
    for (const WeightSpec& weight : weights_of(parse_model_spec(config, "config.json"))) {
      if (weight.quantised && weight.expert <= 0) out.push_back(weight.name);
    }
    return out;
  };
  const std::string layer0 = "model.layers.0.";
  EXPECT_THAT(quantised(Json::array()), Contains(layer0 + "self_attn.o_proj.weight"));
  // A module, a parent, the tail of a path; and no name that merely begins alike.
  EXPECT_THAT(quantised({"model.layers.0.self_attn.o_proj"}),
              Not(Contains(layer0 + "self_attn.o_proj.weight")));
  EXPECT_THAT(quantised({"model.layers.0.mlp"}),
              Not(Contains(layer0 + "mlp.experts.0.up_proj.weight")));
  EXPECT_THAT(quantised({"o_proj"}), Not(Contains(layer0 + "self_attn.o_proj.weight")));
  EXPECT_THAT(quantised({"model"}), IsEmpty());
  EXPECT_THAT(quantised({"model.layers.0.self_attn.o"}),
              Contains(layer0 + "self_attn.o_proj.weight"));
}

TEST(Weights, AreInLoadingOrderWithTheirShapes) {
  const std::vector<WeightSpec> weights = weights_of(parse_golden("qwen3"));
  EXPECT_EQ(weights.front().name, "model.embed_tokens.weight");
  EXPECT_EQ(weights.front().shape, (Shape{131, 44}));
  EXPECT_EQ(weights.back().name, "lm_head.weight");
  for (const WeightSpec& weight : weights) {
    if (weight.role == WeightRole::kExpertDown) {
      EXPECT_EQ(weight.shape, (Shape{44, 20}));
    }
    if (weight.role == WeightRole::kK) {
      EXPECT_EQ(weight.shape, (Shape{20, 44}));
    }
    if (weight.role == WeightRole::kQNorm) {
      EXPECT_EQ(weight.shape, (Shape{10}));
    }
  }
}

}  // namespace
}  // namespace moeopt
