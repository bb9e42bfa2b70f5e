// Mixtral (8x7B, 8x22B): grouped-query attention, optional sliding window, softmax router whose two
// weights are renormalised; experts named w1 (gate), w3 (up) and w2 (down).
#include "model/family/family.h"

namespace moeopt {

void parse_mixtral(const ConfigReader& config, ModelSpec& spec) {
  namespace limits = config_limits;
  const int n_layers = read_layer_count(config);
  AttentionSpec attention = read_gqa(config, spec, 1e6);
  if (config.has("sliding_window")) {
    attention.sliding_window = config.extent("sliding_window", limits::kPosition);
  }

  MoeSpec moe;
  moe.n_experts = config.extent("num_local_experts", limits::kExperts);
  moe.top_k = config.extent("num_experts_per_tok", limits::kExperts);
  moe.intermediate = config.extent("intermediate_size", limits::kIntermediate);
  moe.router.renormalise = true;
  check_mlp(config, spec);
  append_layers(spec, n_layers, attention, moe, 0, [](int) { return true; });

  name_decoder_weights(spec);
  const std::string block = "model.layers.{layer}.block_sparse_moe.";
  spec.weight_names[WeightRole::kRouter] = block + "gate.weight";
  spec.weight_names[WeightRole::kExpertGate] = block + "experts.{expert}.w1.weight";
  spec.weight_names[WeightRole::kExpertUp] = block + "experts.{expert}.w3.weight";
  spec.weight_names[WeightRole::kExpertDown] = block + "experts.{expert}.w2.weight";
}

}  // namespace moeopt
