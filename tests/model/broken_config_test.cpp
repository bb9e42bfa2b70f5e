// Hostile and broken configs: each is refused with an error that names the file and the field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/config_reader.h"
#include "model/model_util.h"
#include "model/parse.h"

namespace moeopt {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Broken {
  const char* name;
  const char* golden;   // the config that is changed
  const char* changes;  // JSON merged into it
  const char* message;  // behind "config.json: "
};

class BrokenConfig : public testing::TestWithParam<Broken> {};

TEST_P(BrokenConfig, NamesFileAndField) {
  Json config = golden_config(GetParam().golden);
  config.merge_patch(Json::parse(GetParam().changes));
  for (auto& [key, value] : config.items()) {
    if (value == "null") value = nullptr;
  }
  const Error error = error_of([&] { parse_model_spec(config, "some/config.json"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
  EXPECT_EQ(exit_code(error.code()), 6);
  EXPECT_THAT(error.what(), StartsWith(std::string("some/config.json: ") + GetParam().message));
}

// clang-format off
constexpr Broken kBroken[] = {
  {"vocab_missing", "qwen3", R"({"vocab_size": "null"})", "vocab_size: is missing"},
  {"vocab_huge", "qwen3", R"({"vocab_size": 5000000})", "vocab_size: must be between 1 and 4000000"},
  {"vocab_past_int64", "qwen3", R"({"vocab_size": 18446744073709551615})", "vocab_size: must be between"},
  {"vocab_float", "qwen3", R"({"vocab_size": 131.0})", "vocab_size: must be an integer, is 131.0"},
  {"vocab_text", "qwen3", R"({"vocab_size": "131"})", "vocab_size: must be an integer, is \"131\""},
  {"hidden_zero", "qwen3", R"({"hidden_size": 0})", "hidden_size: must be between 1"},
  {"hidden_negative", "qwen3", R"({"hidden_size": -44})", "hidden_size: must be between 1"},
  {"hidden_list", "qwen3", R"({"hidden_size": [44]})", "hidden_size: must be an integer, is a list"},
  {"layers_many", "qwen3", R"({"num_hidden_layers": 1025})", "num_hidden_layers: must be between 1 and 1024"},
  {"layers_zero", "mixtral", R"({"num_hidden_layers": 0})", "num_hidden_layers: must be between 1"},
  {"layers_missing", "deepseek-v3", R"({"num_hidden_layers": "null"})", "num_hidden_layers: is missing"},
  {"heads_undivided", "qwen3", R"({"num_key_value_heads": 4})", "num_key_value_heads: 4 does not divide num_attention_heads 6"},
  {"hidden_undivided", "qwen2", R"({"num_attention_heads": 4})", "num_attention_heads: 4 does not divide hidden_size 42"},
  {"head_dim_odd", "qwen3", R"({"head_dim": 9})", "head_dim: 9 rotated values a head: must be even"},
  {"head_dim_huge", "qwen3", R"({"head_dim": 4098})", "head_dim: must be between 1 and 4096"},
  {"experts_zero", "qwen3", R"({"num_experts": 0})", "num_experts: must be between 1 and 4096"},
  {"experts_many", "mixtral", R"({"num_local_experts": 99999})", "num_local_experts: must be between 1 and 4096"},
  {"experts_of_model", "qwen3", R"({"num_experts": 4096, "num_hidden_layers": 1024})", "num_hidden_layers: 4194304 routed experts"},
  {"top_k_large", "qwen2", R"({"num_experts_per_tok": 7})", "num_experts_per_tok: 7 experts a token of only 6"},
  {"top_k_missing", "mixtral", R"({"num_experts_per_tok": "null"})", "num_experts_per_tok: is missing"},
  {"intermediate_huge", "mixtral", R"({"intermediate_size": 1048577})", "intermediate_size: must be between"},
  {"expert_size_missing", "qwen3", R"({"moe_intermediate_size": "null"})", "moe_intermediate_size: is missing"},
  {"shared_huge", "deepseek-v3", R"({"n_shared_experts": 4096, "moe_intermediate_size": 4096})", "n_shared_experts: makes a shared expert of size 16777216"},
  {"shared_missing", "qwen2", R"({"shared_expert_intermediate_size": "null"})", "shared_expert_intermediate_size: is missing"},
  {"groups_undivided", "deepseek-v3", R"({"n_group": 5})", "n_group: 5 does not divide 12 experts"},
  {"groups_chosen", "deepseek-v3", R"({"topk_group": 5})", "topk_group: 5 groups of only 4"},
  {"groups_too_few", "deepseek-v3", R"({"topk_group": 1, "num_experts_per_tok": 4})", "topk_group: 1 groups hold 3 experts, 4 are chosen"},
  {"groups_of_one", "deepseek-v3", R"({"n_group": 12, "topk_group": 12})", "n_group: leaves groups of one expert"},
  {"group_missing", "deepseek-v2", R"({"n_group": "null"})", "n_group: is missing"},
  {"latent_zero", "deepseek-v3", R"({"kv_lora_rank": 0})", "kv_lora_rank: must be between 1"},
  {"latent_rope_odd", "deepseek-v3", R"({"qk_rope_head_dim": 7})", "qk_rope_head_dim: must be even"},
  {"latent_heads", "deepseek-v2", R"({"num_key_value_heads": 1})", "num_key_value_heads: must equal num_attention_heads"},
  {"sparse_step_zero", "qwen3", R"({"decoder_sparse_step": 0})", "decoder_sparse_step: must be between 1"},
  {"layer_freq_zero", "deepseek-v2", R"({"moe_layer_freq": 0})", "moe_layer_freq: must be between 1"},
  {"dense_list_text", "qwen3", R"({"mlp_only_layers": ["a"]})", "mlp_only_layers: must be an integer"},
  {"dense_list_negative", "qwen3", R"({"mlp_only_layers": [-1]})", "mlp_only_layers: must be between 0"},
  {"layer_types_short", "qwen2-window", R"({"layer_types": ["full_attention"]})", "layer_types: has 1 entries for 3 layers"},
  {"layer_types_unknown", "qwen2-window", R"({"layer_types": ["full_attention", "full_attention", "linear"]})", "layer_types: knows \"full_attention\""},
  {"window_zero", "mixtral", R"({"sliding_window": 0})", "sliding_window: must be between 1"},
  {"flag_number", "qwen3", R"({"norm_topk_prob": 1})", "norm_topk_prob: must be true or false, is 1"},
  {"epsilon_negative", "qwen3", R"({"rms_norm_eps": -1})", "rms_norm_eps: must be between 0 and 1"},
  {"epsilon_text", "qwen3", R"({"rms_norm_eps": "1e-6"})", "rms_norm_eps: must be a number"},
  {"theta_zero", "qwen3", R"({"rope_theta": 0})", "rope_theta: must be between 0.001"},
  {"scaling_list", "qwen3", R"({"rope_scaling": [1]})", "rope_scaling: must be a JSON object, is a list"},
  {"scaling_factor", "qwen3", R"({"rope_scaling": {"type": "yarn", "factor": 0.5}})", "rope_scaling.factor: must be between 1"},
  {"scaling_factor_missing", "qwen3", R"({"rope_scaling": {"type": "linear"}})", "rope_scaling.factor: is missing"},
  {"scaling_bands", "mixtral", R"({"rope_parameters": {"low_freq_factor": 4}})", "rope_parameters.high_freq_factor: must be above low_freq_factor"},
  {"yarn_flat_base", "deepseek-v3", R"({"rope_theta": 1})", "rope_scaling.rope_theta: must be above 1 for yarn"},
  {"eos_negative", "qwen3", R"({"eos_token_id": [2, -1]})", "eos_token_id: must be between 0"},
  {"bos_float", "qwen3", R"({"bos_token_id": 0.5})", "bos_token_id: must be an integer"},
  {"position_huge", "qwen3", R"({"max_position_embeddings": 1e18})", "max_position_embeddings: must be an integer"},
  {"architectures_text", "qwen3", R"({"architectures": "Qwen3MoeForCausalLM"})", "architectures: must be a list"},
  {"quantisation_list", "qwen3", R"({"quantization_config": []})", "quantization_config: must be a JSON object"},
  {"quantisation_modules", "qwen3-fp8", R"({"quantization_config": {"modules_to_not_convert": [7]}})", "quantization_config.modules_to_not_convert: must be a string"},
};
// clang-format on

INSTANTIATE_TEST_SUITE_P(All, BrokenConfig, testing::ValuesIn(kBroken),
                         [](const auto& broken) { return std::string(broken.param.name); });

TEST(ConfigText, IsBounded) {
  Json config = golden_config("qwen3");
  config["hidden_act"] = std::string(100000, 'x');
  const Error error = error_of([&] { parse_model_spec(config, "config.json"); });
  EXPECT_STREQ(error.what(), "config.json: hidden_act: has 100000 bytes, the limit is 256");
}

TEST(ConfigText, ControlCharactersNeverReachTheTerminal) {
  Json config = golden_config("qwen3");
  config["vocab_size"] = "\x1b[31mred\x07";
  const Error error = error_of([&] { parse_model_spec(config, "config.json"); });
  EXPECT_EQ(std::string(error.what()).find('\x1b'), std::string::npos);
  EXPECT_THAT(error.what(), HasSubstr("vocab_size: must be an integer"));
}

TEST(ConfigRoot, MustBeAnObject) {
  const Error error = error_of([] { parse_model_spec(Json::array(), "config.json"); });
  EXPECT_STREQ(error.what(), "config.json: must be a JSON object, is a list");
}

}  // namespace
}  // namespace moeopt
