// A model's weights bound to a TensorSource: matrices are views of the source's bytes, the small
// norm and bias vectors are converted to float32 once, into memory that the caller planned.
// Invariant: every matrix has the shape and a dtype that the ops read; the source outlives this.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "cpu/ops.h"
#include "model/model_spec.h"

namespace moeopt::cpu {

struct LayerWeights {
  std::span<const float> attention_norm, mlp_norm;
  Matrix q, k, v, o;            // MLA: q when there is no q_lora_rank, and o
  Matrix q_a, q_b, kv_a, kv_b;  // MLA
  std::span<const float> q_bias, k_bias, v_bias, o_bias;  // empty when there is none
  std::span<const float> q_norm, k_norm;                  // of one head
  std::span<const float> q_a_norm, kv_a_norm;
  SwigluWeights dense;  // when LayerSpec::moe is absent
  MoeWeights moe;
};

class Weights {
 public:
  // Floats that the vectors of `spec` take.
  static std::uint64_t vector_elements(const ModelSpec& spec);

  // `vectors`: vector_elements() floats. Error(kNotFound) names a tensor that is not there,
  // Error(kInvalidData) one of another shape, or of a dtype that no op reads.
  Weights(const ModelSpec& spec, const TensorSource& source, std::span<float> vectors);
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const Matrix& embedding() const { return embedding_; }
  const Matrix& lm_head() const { return lm_head_; }  // the embedding when they are tied
  std::span<const float> final_norm() const { return final_norm_; }
  const LayerWeights& layer(int index) const { return layers_[static_cast<std::size_t>(index)]; }

 private:
  Matrix* matrix_slot(const WeightSpec& weight);
  std::span<const float>* vector_slot(const WeightSpec& weight);
  SwigluWeights& expert(int layer, int expert);

  Matrix embedding_, lm_head_;
  std::span<const float> final_norm_;
  std::vector<LayerWeights> layers_;
  std::vector<std::size_t> first_expert_;  // of each layer, in experts_
  std::vector<SwigluWeights> experts_;
  std::vector<Buffer> widened_;  // base/bypass.h
};

}  // namespace moeopt::cpu
