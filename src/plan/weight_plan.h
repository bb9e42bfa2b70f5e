// WeightPlan: the bytes of a model's weights, as one rank holds them. For src/plan alone.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "model/model_spec.h"
#include "plan/memory_plan.h"

namespace moeopt {

class WeightPlan {
 public:
  // `tensors` may be null: then config.json's dtypes are believed. Both outlive the plan.
  WeightPlan(const ModelSpec& spec, const TensorSource* tensors);

  // Of one rank of `ranks`, which divide the model.
  std::array<std::uint64_t, kWeightClasses> bytes_by_class(int ranks) const;
  std::uint64_t bytes(int ranks) const;

  // One buffer per layer and role, of `rank`; a layer's routed experts are one buffer a matrix.
  std::vector<PlannedBuffer> buffers(int ranks, int rank) const;

 private:
  std::uint64_t shard_bytes(const WeightSpec& weight, int ranks) const;

  const ModelSpec* spec_;
  const TensorSource* tensors_;
  std::vector<WeightSpec> weights_;
};

}  // namespace moeopt
