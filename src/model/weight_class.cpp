#include "model/weight_class.h"

namespace moeopt {

std::string_view weight_class_name(WeightClass weight_class) {
  switch (weight_class) {
    case WeightClass::kRoutedExperts:
      return "routed experts";
    case WeightClass::kSharedExperts:
      return "shared experts";
    case WeightClass::kDenseMlp:
      return "dense MLPs";
    case WeightClass::kAttention:
      return "attention";
    case WeightClass::kRouter:
      return "routers";
    case WeightClass::kNorms:
      return "norms";
    case WeightClass::kEmbedding:
      return "embedding";
    case WeightClass::kLmHead:
      return "output matrix";
    case WeightClass::kOther:
      break;
  }
  return "unused";
}

WeightClass weight_class_of(WeightRole role) {
  switch (role) {
    case WeightRole::kEmbedding:
      return WeightClass::kEmbedding;
    case WeightRole::kLmHead:
      return WeightClass::kLmHead;
    case WeightRole::kFinalNorm:
    case WeightRole::kAttentionNorm:
    case WeightRole::kMlpNorm:
    case WeightRole::kQNorm:
    case WeightRole::kKNorm:
    case WeightRole::kQANorm:
    case WeightRole::kKvANorm:
      return WeightClass::kNorms;
    case WeightRole::kQ:
    case WeightRole::kK:
    case WeightRole::kV:
    case WeightRole::kO:
    case WeightRole::kQBias:
    case WeightRole::kKBias:
    case WeightRole::kVBias:
    case WeightRole::kOBias:
    case WeightRole::kQA:
    case WeightRole::kQB:
    case WeightRole::kKvA:
    case WeightRole::kKvB:
      return WeightClass::kAttention;
    case WeightRole::kDenseGate:
    case WeightRole::kDenseUp:
    case WeightRole::kDenseDown:
      return WeightClass::kDenseMlp;
    case WeightRole::kRouter:
    case WeightRole::kRouterBias:
      return WeightClass::kRouter;
    case WeightRole::kExpertGate:
    case WeightRole::kExpertUp:
    case WeightRole::kExpertDown:
      return WeightClass::kRoutedExperts;
    case WeightRole::kSharedGate:
    case WeightRole::kSharedUp:
    case WeightRole::kSharedDown:
    case WeightRole::kSharedExpertGate:
      return WeightClass::kSharedExperts;
  }
  return WeightClass::kOther;
}

WeightClass guess_weight_class(std::string_view name) {
  const auto has = [name](std::string_view part) {
    return name.find(part) != std::string_view::npos;
  };
  if (has("shared_expert")) return WeightClass::kSharedExperts;
  if (has("experts")) return WeightClass::kRoutedExperts;
  if (has("norm")) return WeightClass::kNorms;
  if (has("attn") || has("attention")) return WeightClass::kAttention;
  if (has("embed")) return WeightClass::kEmbedding;
  if (has("lm_head")) return WeightClass::kLmHead;
  if (has("gate.") || has("router")) return WeightClass::kRouter;
  if (has("mlp.")) return WeightClass::kDenseMlp;
  return WeightClass::kOther;
}

}  // namespace moeopt
