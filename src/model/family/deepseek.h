// What DeepSeek-V2 and V3 spell alike.
#pragma once

#include "model/family/family.h"

namespace moeopt {

// Experts, top-k, sizes and groups; the router's scores are left to the family.
MoeSpec read_deepseek_moe(const ConfigReader& config);

// Dense layers first, then every moe_layer_freq-th layer sparse; names as both families have them.
void append_deepseek_layers(const ConfigReader& config, const AttentionSpec& attention,
                            const MoeSpec& moe, ModelSpec& spec);

}  // namespace moeopt
