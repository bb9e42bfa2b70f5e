// Multi-head latent attention as DeepSeek-V2 and V3 configure it (arXiv 2405.04434, section 2.1).
#include <cmath>

#include "model/family/family.h"
#include "model/rope.h"

namespace moeopt {

AttentionSpec read_mla(const ConfigReader& config, ModelSpec& spec, bool interleaved) {
  namespace limits = config_limits;
  AttentionSpec attention;
  attention.kind = AttentionKind::kMla;
  attention.n_heads = config.extent("num_attention_heads", limits::kHeads);
  attention.n_kv_heads = attention.n_heads;
  attention.q_lora_rank =
      config.has("q_lora_rank") ? config.extent("q_lora_rank", limits::kHidden) : 0;
  attention.kv_lora_rank = config.extent("kv_lora_rank", limits::kHidden);
  attention.qk_nope_dim = config.extent("qk_nope_head_dim", limits::kHeadDim);
  attention.qk_rope_dim = config.extent("qk_rope_head_dim", limits::kHeadDim);
  attention.v_head_dim = config.extent("v_head_dim", limits::kHeadDim);
  attention.qk_head_dim = attention.qk_nope_dim + attention.qk_rope_dim;
  if (attention.qk_rope_dim % 2 != 0) config.refuse("qk_rope_head_dim", "must be even");
  if (config.integer_or("num_key_value_heads", attention.n_heads, 1, limits::kHeads) !=
      attention.n_heads) {
    config.refuse("num_key_value_heads", "must equal num_attention_heads: heads share one latent");
  }
  if (config.flag_or("attention_bias", false)) {
    set_not_runnable(spec, "latent attention with biases (attention_bias)");
  }

  RopeReading reading = read_rope(config, attention.qk_rope_dim, 10000.0, spec.max_position);
  spec.rope = std::move(reading.rope);
  spec.rope.interleaved = interleaved;
  if (reading.unsupported) set_not_runnable(spec, *reading.unsupported + " is not built");
  attention.softmax_scale =
      reading.softmax_mscale / std::sqrt(static_cast<double>(attention.qk_head_dim));
  return attention;
}

}  // namespace moeopt
