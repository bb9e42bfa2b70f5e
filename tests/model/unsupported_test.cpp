// What is understood and not run: formats, rope rules and features refused by name, and other MoE
// architectures, which are still counted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/inspect.h"
#include "model/model_util.h"
#include "model/parse.h"

namespace moeopt {
namespace {

using testing::HasSubstr;

ModelSpec parse_changed(std::string_view golden, const Json& changes) {
  Json config = golden_config(golden);
  config.merge_patch(changes);
  return parse_model_spec(config, "config.json");
}

struct Refused {
  const char* name;
  const char* golden;
  const char* changes;
  const char* reason;
};

class Unsupported : public testing::TestWithParam<Refused> {};

TEST_P(Unsupported, IsPlannedButNotRun) {
  const ModelSpec spec = parse_changed(GetParam().golden, Json::parse(GetParam().changes));
  ASSERT_TRUE(spec.not_runnable.has_value());
  EXPECT_THAT(*spec.not_runnable, HasSubstr(GetParam().reason));
  EXPECT_GT(count_parameters(spec).total, 0u);
  const Error error = error_of([&] { require_runnable(spec, "config.json"); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(error.what(), HasSubstr(GetParam().reason));
}

// clang-format off
constexpr Refused kRefused[] = {
  {"gguf", "qwen3", R"({"quantization_config": {"quant_method": "gguf"}})", "GGUF weights are not read"},
  {"awq", "qwen3", R"({"quantization_config": {"quant_method": "awq", "bits": 4}})", "AWQ weights are not read"},
  {"gptq", "mixtral", R"({"quantization_config": {"quant_method": "gptq"}})", "GPTQ weights are not read"},
  {"compressed_tensors", "deepseek-v3", R"({"quantization_config": {"quant_method": "compressed-tensors"}})", "compressed-tensors weights are not read"},
  {"compressed_tensors_unnamed", "qwen3", R"({"quantization_config": {"config_groups": {}}})", "compressed-tensors"},
  {"bitsandbytes", "qwen2", R"({"quantization_config": {"load_in_4bit": true}})", "bitsandbytes weights are not read"},
  {"mxfp4", "qwen3", R"({"quantization_config": {"quant_method": "mxfp4"}})", "MXFP4 weights are not read"},
  {"unknown_method", "qwen3", R"({"quantization_config": {"quant_method": "zip"}})", "quantisation \"zip\""},
  {"fp8_per_tensor", "qwen3", R"({"quantization_config": {"quant_method": "fp8"}})", "fp8 without weight blocks"},
  {"fp8_small_blocks", "qwen3-fp8", R"({"quantization_config": {"weight_block_size": [64, 128]}})", "fp8 in blocks of 64x128"},
  {"fp8_e5m2", "qwen3-fp8", R"({"quantization_config": {"fmt": "e5m2"}})", "fp8 format \"e5m2\""},
  {"fp8_static", "qwen3-fp8", R"({"quantization_config": {"activation_scheme": "static"}})", "activation_scheme \"static\""},
  {"rope_dynamic", "qwen3", R"({"rope_scaling": {"type": "dynamic", "factor": 2.0}})", "rope scaling \"dynamic\""},
  {"rope_longrope", "mixtral", R"({"rope_parameters": {"rope_type": "longrope"}})", "rope scaling \"longrope\""},
  {"rope_latent", "deepseek-v3", R"({"rope_scaling": {"type": "su"}})", "rope scaling \"su\""},
  {"rope_partial", "qwen3", R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor 0.5"},
  {"rope_by_layer", "qwen3", R"({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}})", "rope parameters that differ by layer"},
  {"gelu", "mixtral", R"({"hidden_act": "gelu"})", "activation \"gelu\""},
  {"mlp_bias", "deepseek-v2", R"({"mlp_bias": true})", "MLPs with bias"},
  {"latent_bias", "deepseek-v2", R"({"attention_bias": true})", "attention_bias"},
  {"v2_method", "deepseek-v2", R"({"topk_method": "noaux_tc"})", "topk_method \"noaux_tc\""},
  {"v2_scores", "deepseek-v2", R"({"scoring_func": "sigmoid"})", "scoring_func \"sigmoid\""},
  {"v2_renormalised", "deepseek-v2", R"({"norm_topk_prob": true})", "norm_topk_prob"},
  {"v3_method", "deepseek-v3", R"({"topk_method": "greedy"})", "topk_method \"greedy\""},
  {"v3_scores", "deepseek-v3", R"({"scoring_func": "softmax"})", "scoring_func \"softmax\""},
  {"dtype", "qwen3", R"({"torch_dtype": "float8_e5m2"})", "float8_e5m2"},
  {"other_head", "qwen3", R"({"architectures": ["Qwen3MoeForSequenceClassification"]})", "architecture Qwen3MoeForSequenceClassification"},
};
// clang-format on

INSTANTIATE_TEST_SUITE_P(All, Unsupported, testing::ValuesIn(kRefused),
                         [](const auto& refused) { return std::string(refused.param.name); });

TEST(UnsupportedFormats, SayWhatToUseInstead) {
  const ModelSpec spec =
      parse_changed("qwen3", {{"quantization_config", {{"quant_method", "awq"}}}});
  EXPECT_THAT(spec.not_runnable_hint, HasSubstr("bf16 checkpoint"));
  EXPECT_THAT(error_of([&] { require_runnable(spec, "config.json"); }).hint(),
              HasSubstr("bf16 checkpoint"));
}

// Other architectures, with their published counts of parameters where they have any.
struct Other {
  const char* name;
  const char* config;
  double total_billion;
  double tolerance;
  const char* reason;
};

class OtherArchitecture : public testing::TestWithParam<Other> {};

TEST_P(OtherArchitecture, IsCountedAndNotRun) {
  const ModelSpec spec = parse_model_spec(Json::parse(GetParam().config), "config.json");
  EXPECT_EQ(spec.family, Family::kUnknown);
  ASSERT_TRUE(spec.not_runnable.has_value());
  EXPECT_THAT(*spec.not_runnable, HasSubstr(GetParam().reason));
  const double billion = static_cast<double>(count_parameters(spec).total) / 1e9;
  EXPECT_NEAR(billion, GetParam().total_billion, GetParam().tolerance);
}

// clang-format off
constexpr Other kOthers[] = {
  {"gpt_oss_20b", R"({"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "vocab_size": 201088,
     "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64,
     "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32, "experts_per_token": 4,
     "quantization_config": {"quant_method": "mxfp4"}})", 20.9, 0.1, "MXFP4"},
  {"glm_4_5_air", R"({"architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "vocab_size": 151552,
     "hidden_size": 4096, "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 46,
     "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "n_routed_experts": 128,
     "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1,
     "partial_rotary_factor": 0.5})", 106, 1.5, "Glm4MoeForCausalLM"},
  {"olmoe_7b", R"({"architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", "vocab_size": 50304,
     "hidden_size": 2048, "intermediate_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16,
     "num_key_value_heads": 16, "num_experts": 64, "num_experts_per_tok": 8})", 6.92, 0.02, "OlmoeForCausalLM"},
  {"dbrx", R"({"architectures": ["DbrxForCausalLM"], "model_type": "dbrx", "vocab_size": 100352, "d_model": 6144,
     "n_layers": 40, "n_heads": 48, "attn_config": {"kv_n_heads": 8}, "max_seq_len": 32768,
     "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}})", 131.6, 0.5, "DbrxForCausalLM"},
  {"llama4_scout", R"({"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4", "text_config": {
     "vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
     "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
     "num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1}})", 102, 1.0, "multimodal"},
};
// clang-format on

INSTANTIATE_TEST_SUITE_P(All, OtherArchitecture, testing::ValuesIn(kOthers),
                         [](const auto& other) { return std::string(other.param.name); });

TEST(DenseModels, AreRefused) {
  const Json config = {{"architectures", {"LlamaForCausalLM"}},
                       {"model_type", "llama"},
                       {"hidden_size", 4096},
                       {"num_experts", 0}};
  const Error error = error_of([&] { parse_model_spec(config, "config.json"); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(error.what(), HasSubstr("config.json: LlamaForCausalLM has no experts"));
  EXPECT_THAT(error.hint(), HasSubstr("Mixture-of-Experts"));
}

TEST(GenericSparsity, FollowsPeriodAndOffset) {
  Json config = Json::parse(kOthers[2].config);
  config.update({{"expert_layer_period", 4}, {"expert_layer_offset", 1}});
  const ModelSpec spec = parse_model_spec(config, "config.json");
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    EXPECT_EQ(spec.layers[i].moe.has_value(), i % 4 == 1) << i;
  }
}

TEST(GenericSparsity, FollowsAListOfLayers) {
  Json config = Json::parse(kOthers[2].config);
  config.update({{"num_hidden_layers", 3}, {"moe_layer_freq", {0, 1, 1}}});
  const ModelSpec spec = parse_model_spec(config, "config.json");
  EXPECT_FALSE(spec.layers[0].moe.has_value());
  EXPECT_TRUE(spec.layers[1].moe.has_value());
}

TEST(GenericConfigs, AreBoundedToo) {
  Json config = Json::parse(kOthers[2].config);
  config["num_experts_per_tok"] = 65;
  EXPECT_THAT(error_of([&] { parse_model_spec(config, "config.json"); }).what(),
              HasSubstr("num_experts_per_tok: 65 experts a token of only 64"));
  config["num_experts"] = {64, 5000};
  EXPECT_THAT(error_of([&] { parse_model_spec(config, "config.json"); }).what(),
              HasSubstr("num_experts: must be between 0 and 4096"));
}

}  // namespace
}  // namespace moeopt
