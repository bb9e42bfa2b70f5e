// Parts of a config that several families spell alike; see family.h.
#include <algorithm>
#include <cmath>

#include "model/family/family.h"
#include "model/rope.h"

namespace moeopt {

namespace limits = config_limits;

int read_layer_count(const ConfigReader& config) {
  return config.extent("num_hidden_layers", limits::kLayers);
}

void set_not_runnable(ModelSpec& spec, std::string reason, std::string hint) {
  if (spec.not_runnable) return;
  spec.not_runnable = std::move(reason);
  spec.not_runnable_hint = std::move(hint);
}

void check_mlp(const ConfigReader& config, ModelSpec& spec) {
  const std::string activation = config.text_or("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    set_not_runnable(spec, "activation \"" + activation + "\"; only SiLU is built");
  }
  if (config.flag_or("mlp_bias", false)) set_not_runnable(spec, "MLPs with bias (mlp_bias)");
}

AttentionSpec read_gqa(const ConfigReader& config, ModelSpec& spec, double default_theta) {
  AttentionSpec attention;
  attention.kind = AttentionKind::kGqa;
  attention.n_heads = config.extent("num_attention_heads", limits::kHeads);
  attention.n_kv_heads = config.extent_or("num_key_value_heads", attention.n_heads, limits::kHeads);
  if (attention.n_heads % attention.n_kv_heads != 0) {
    config.refuse("num_key_value_heads", fmt::format("{} does not divide num_attention_heads {}",
                                                     attention.n_kv_heads, attention.n_heads));
  }
  if (!config.has("head_dim") && spec.hidden % attention.n_heads != 0) {
    config.refuse("num_attention_heads",
                  fmt::format("{} does not divide hidden_size {}", attention.n_heads, spec.hidden));
  }
  attention.qk_head_dim =
      config.extent_or("head_dim", spec.hidden / attention.n_heads, limits::kHeadDim);
  attention.v_head_dim = attention.qk_head_dim;
  attention.softmax_scale = 1.0 / std::sqrt(static_cast<double>(attention.qk_head_dim));

  RopeReading reading = read_rope(config, attention.qk_head_dim, default_theta, spec.max_position);
  spec.rope = std::move(reading.rope);
  if (reading.unsupported) set_not_runnable(spec, *reading.unsupported + " is not built");
  return attention;
}

void append_layers(ModelSpec& spec, int n, const AttentionSpec& attention, const MoeSpec& moe,
                   int dense_intermediate, const std::function<bool(int)>& is_moe) {
  for (int i = 0; i < n; ++i) {
    LayerSpec layer;
    layer.attention = attention;
    if (is_moe(i)) {
      layer.moe = moe;
    } else {
      layer.dense_intermediate = dense_intermediate;
    }
    spec.layers.push_back(layer);
  }
}

std::function<bool(int)> read_qwen_sparsity(const ConfigReader& config, int n_layers) {
  const auto step =
      static_cast<int>(config.integer_or("decoder_sparse_step", 1, 1, limits::kLayers));
  std::vector<bool> dense(static_cast<std::size_t>(n_layers), false);
  for (const std::int64_t layer :
       config.integers("mlp_only_layers", 0, limits::kLayers, limits::kLayers)) {
    if (layer < n_layers) dense[static_cast<std::size_t>(layer)] = true;
  }
  return [step, dense = std::move(dense)](int layer) {
    return !dense[static_cast<std::size_t>(layer)] && (layer + 1) % step == 0;
  };
}

void name_decoder_weights(ModelSpec& spec) {
  const std::string layer = "model.layers.{layer}.";
  const std::string attention = layer + "self_attn.";
  spec.weight_names[WeightRole::kEmbedding] = "model.embed_tokens.weight";
  spec.weight_names[WeightRole::kFinalNorm] = "model.norm.weight";
  spec.weight_names[WeightRole::kLmHead] = "lm_head.weight";
  spec.weight_names[WeightRole::kAttentionNorm] = layer + "input_layernorm.weight";
  spec.weight_names[WeightRole::kMlpNorm] = layer + "post_attention_layernorm.weight";
  spec.weight_names[WeightRole::kQ] = attention + "q_proj.weight";
  spec.weight_names[WeightRole::kK] = attention + "k_proj.weight";
  spec.weight_names[WeightRole::kV] = attention + "v_proj.weight";
  spec.weight_names[WeightRole::kO] = attention + "o_proj.weight";
  spec.weight_names[WeightRole::kQBias] = attention + "q_proj.bias";
  spec.weight_names[WeightRole::kKBias] = attention + "k_proj.bias";
  spec.weight_names[WeightRole::kVBias] = attention + "v_proj.bias";
  spec.weight_names[WeightRole::kOBias] = attention + "o_proj.bias";
  spec.weight_names[WeightRole::kQNorm] = attention + "q_norm.weight";
  spec.weight_names[WeightRole::kKNorm] = attention + "k_norm.weight";
  spec.weight_names[WeightRole::kQA] = attention + "q_a_proj.weight";
  spec.weight_names[WeightRole::kQANorm] = attention + "q_a_layernorm.weight";
  spec.weight_names[WeightRole::kQB] = attention + "q_b_proj.weight";
  spec.weight_names[WeightRole::kKvA] = attention + "kv_a_proj_with_mqa.weight";
  spec.weight_names[WeightRole::kKvANorm] = attention + "kv_a_layernorm.weight";
  spec.weight_names[WeightRole::kKvB] = attention + "kv_b_proj.weight";
  spec.weight_names[WeightRole::kDenseGate] = layer + "mlp.gate_proj.weight";
  spec.weight_names[WeightRole::kDenseUp] = layer + "mlp.up_proj.weight";
  spec.weight_names[WeightRole::kDenseDown] = layer + "mlp.down_proj.weight";
}

void name_expert_weights(ModelSpec& spec) {
  const std::string mlp = "model.layers.{layer}.mlp.";
  spec.weight_names[WeightRole::kRouter] = mlp + "gate.weight";
  spec.weight_names[WeightRole::kRouterBias] = mlp + "gate.e_score_correction_bias";
  spec.weight_names[WeightRole::kExpertGate] = mlp + "experts.{expert}.gate_proj.weight";
  spec.weight_names[WeightRole::kExpertUp] = mlp + "experts.{expert}.up_proj.weight";
  spec.weight_names[WeightRole::kExpertDown] = mlp + "experts.{expert}.down_proj.weight";
  spec.weight_names[WeightRole::kSharedGate] = mlp + "shared_experts.gate_proj.weight";
  spec.weight_names[WeightRole::kSharedUp] = mlp + "shared_experts.up_proj.weight";
  spec.weight_names[WeightRole::kSharedDown] = mlp + "shared_experts.down_proj.weight";
}

}  // namespace moeopt
