// The layers of real models that the suite runs.
#pragma once

#include <array>

#include "moeopt.h"

namespace moeopt::gpu_test {

struct ModelLayer {
  const char* name;
  int hidden, intermediate, experts, top_k, renormalise, shared_intermediate;
  bool given;  // routes are given, as where experts are spread over GPUs

  moeopt_moe_desc desc(bool fp8, int max_tokens) const {
    moeopt_moe_desc d{};
    d.struct_size = sizeof(d);
    d.hidden = hidden;
    d.intermediate = intermediate;
    d.experts = d.slots = experts;
    d.top_k = top_k;
    d.max_tokens = max_tokens;
    d.dtype = fp8 ? MOEOPT_FP8 : MOEOPT_BF16;
    d.renormalise = renormalise;
    d.shared_intermediate = shared_intermediate;
    d.shared_gate = shared_intermediate > 0 ? 1 : 0;
    return d;
  }
};

inline constexpr ModelLayer kQwen3{"qwen3-30b", 2048, 768, 128, 8, 1, 0, false};
inline constexpr ModelLayer kMixtral{"mixtral-8x7b", 4096, 14336, 8, 2, 1, 0, false};
inline constexpr ModelLayer kDeepseek{"deepseek-v3-slice", 7168, 2048, 32, 8, 1, 0, true};
inline constexpr ModelLayer kQwen15{"qwen1.5-moe", 2048, 1408, 60, 4, 0, 5632, false};
inline constexpr std::array<ModelLayer, 4> kModelLayers{kQwen3, kMixtral, kDeepseek, kQwen15};

}  // namespace moeopt::gpu_test
