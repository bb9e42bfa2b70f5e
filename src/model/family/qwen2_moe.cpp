// Qwen2-MoE and Qwen1.5-MoE: biases on q, k and v, one shared expert behind a sigmoid gate, router
// weights that are not renormalised.
#include "model/family/family.h"

namespace moeopt {
namespace {

// Which layers see a window alone: `layer_types` when given, else every other one of the first
// max_window_layers.
std::vector<bool> read_windowed_layers(const ConfigReader& config, int n_layers) {
  namespace limits = config_limits;
  std::vector<bool> windowed(static_cast<std::size_t>(n_layers), false);
  const auto types = config.texts("layer_types", limits::kLayers);
  if (config.has("layer_types")) {
    if (types.size() != windowed.size()) {
      config.refuse("layer_types",
                    fmt::format("has {} entries for {} layers", types.size(), windowed.size()));
    }
    for (std::size_t i = 0; i < types.size(); ++i) {
      windowed[i] = types[i] == "sliding_attention";
      if (!windowed[i] && types[i] != "full_attention") {
        config.refuse("layer_types", "knows \"full_attention\" and \"sliding_attention\" alone");
      }
    }
    return windowed;
  }
  const auto limit = config.integer_or("max_window_layers", 28, 0, limits::kLayers);
  for (int i = 0; i < n_layers && i < limit; i += 2) windowed[static_cast<std::size_t>(i)] = true;
  return windowed;
}

}  // namespace

void parse_qwen2_moe(const ConfigReader& config, ModelSpec& spec) {
  namespace limits = config_limits;
  const int n_layers = read_layer_count(config);
  AttentionSpec attention = read_gqa(config, spec, 10000.0);
  attention.qkv_bias = config.flag_or("qkv_bias", true);

  MoeSpec moe;
  moe.n_experts = config.extent("num_experts", limits::kExperts);
  moe.top_k = config.extent("num_experts_per_tok", limits::kExperts);
  moe.intermediate = config.extent("moe_intermediate_size", limits::kIntermediate);
  moe.shared_intermediate = config.extent("shared_expert_intermediate_size", limits::kIntermediate);
  moe.shared_expert_gate = true;
  moe.router.renormalise = config.flag_or("norm_topk_prob", false);
  check_mlp(config, spec);
  append_layers(spec, n_layers, attention, moe,
                config.extent("intermediate_size", limits::kIntermediate),
                read_qwen_sparsity(config, n_layers));

  if (config.flag_or("use_sliding_window", false) && config.has("sliding_window")) {
    const int window = config.extent("sliding_window", limits::kPosition);
    const std::vector<bool> windowed = read_windowed_layers(config, n_layers);
    for (std::size_t i = 0; i < windowed.size(); ++i) {
      if (windowed[i]) spec.layers[i].attention.sliding_window = window;
    }
  }

  name_decoder_weights(spec);
  name_expert_weights(spec);
  const std::string mlp = "model.layers.{layer}.mlp.";
  spec.weight_names[WeightRole::kSharedGate] = mlp + "shared_expert.gate_proj.weight";
  spec.weight_names[WeightRole::kSharedUp] = mlp + "shared_expert.up_proj.weight";
  spec.weight_names[WeightRole::kSharedDown] = mlp + "shared_expert.down_proj.weight";
  spec.weight_names[WeightRole::kSharedExpertGate] = mlp + "shared_expert_gate.weight";
}

}  // namespace moeopt
