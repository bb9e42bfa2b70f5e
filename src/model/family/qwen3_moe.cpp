// Qwen3-MoE (Qwen3-30B-A3B, Qwen3-235B-A22B): grouped-query attention with an RMSNorm on each head
// of q and k, softmax router, no shared expert, optional dense layers.
#include "model/family/family.h"

namespace moeopt {

void parse_qwen3_moe(const ConfigReader& config, ModelSpec& spec) {
  namespace limits = config_limits;
  const int n_layers = read_layer_count(config);
  AttentionSpec attention = read_gqa(config, spec, 10000.0);
  attention.qk_norm = true;
  attention.qkv_bias = config.flag_or("attention_bias", false);
  attention.o_bias = attention.qkv_bias;
  if (config.flag_or("use_sliding_window", false) && config.has("sliding_window")) {
    attention.sliding_window = config.extent("sliding_window", limits::kPosition);
  }

  MoeSpec moe;
  moe.n_experts = config.has("num_local_experts")
                      ? config.extent("num_local_experts", limits::kExperts)
                      : config.extent("num_experts", limits::kExperts);
  moe.top_k = config.extent("num_experts_per_tok", limits::kExperts);
  moe.intermediate = config.extent("moe_intermediate_size", limits::kIntermediate);
  moe.router.renormalise = config.flag_or("norm_topk_prob", false);
  check_mlp(config, spec);
  append_layers(spec, n_layers, attention, moe,
                config.extent("intermediate_size", limits::kIntermediate),
                read_qwen_sparsity(config, n_layers));
  name_decoder_weights(spec);
  name_expert_weights(spec);
}

}  // namespace moeopt
