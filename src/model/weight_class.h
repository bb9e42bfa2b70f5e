// The classes that weights are counted and planned by.
#pragma once

#include <cstdint>
#include <string_view>

#include "model/model_spec.h"

namespace moeopt {

enum class WeightClass : std::uint8_t {
  kRoutedExperts,
  kSharedExperts,
  kDenseMlp,
  kAttention,
  kRouter,
  kNorms,
  kEmbedding,
  kLmHead,
  kOther,  // in the checkpoint, and no part of the forward pass
};
inline constexpr int kWeightClasses = 9;
std::string_view weight_class_name(WeightClass weight_class);
WeightClass weight_class_of(WeightRole role);
// For a tensor that no spec names, by what checkpoints call such tensors.
WeightClass guess_weight_class(std::string_view tensor_name);

}  // namespace moeopt
