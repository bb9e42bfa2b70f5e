// What DeepSeek-V2 and V3 spell alike; see deepseek.h.
#include "model/family/deepseek.h"

namespace moeopt {

MoeSpec read_deepseek_moe(const ConfigReader& config) {
  namespace limits = config_limits;
  MoeSpec moe;
  moe.n_experts = config.extent("n_routed_experts", limits::kExperts);
  moe.top_k = config.extent("num_experts_per_tok", limits::kExperts);
  moe.intermediate = config.extent("moe_intermediate_size", limits::kIntermediate);
  const std::int64_t shared =
      config.integer_or("n_shared_experts", 0, 0, limits::kExperts) * moe.intermediate;
  if (shared > limits::kIntermediate) {
    config.refuse("n_shared_experts",
                  fmt::format("makes a shared expert of size {}, the limit is {}", shared,
                              limits::kIntermediate));
  }
  moe.shared_intermediate = static_cast<int>(shared);
  moe.router.scale = config.number_or("routed_scaling_factor", 1.0, 0.0, 1e6);
  return moe;
}

void append_deepseek_layers(const ConfigReader& config, const AttentionSpec& attention,
                            const MoeSpec& moe, ModelSpec& spec) {
  namespace limits = config_limits;
  const auto first_sparse = config.integer_or("first_k_dense_replace", 0, 0, limits::kLayers);
  const auto every = config.integer_or("moe_layer_freq", 1, 1, limits::kLayers);
  append_layers(spec, read_layer_count(config), attention, moe,
                config.extent("intermediate_size", limits::kIntermediate),
                [&](int layer) { return layer >= first_sparse && layer % every == 0; });
  name_decoder_weights(spec);
  name_expert_weights(spec);
}

}  // namespace moeopt
