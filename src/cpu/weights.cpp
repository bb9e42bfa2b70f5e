#include "cpu/weights.h"

#include <cstring>

#include "base/bypass.h"
#include "base/check.h"
#include "base/error.h"

namespace moeopt::cpu {
namespace {

constexpr std::int64_t kScaleBlock = 128;

bool is_vector(const WeightSpec& weight) {
  return weight.shape.rank() == 1;
}

TensorView checked_view(const TensorSource& source, const WeightSpec& weight) {
  const TensorInfo& info = require_tensor(source, weight.name);
  const bool right_shape = info.shape == weight.shape;
  if (!right_shape) {
    throw_error(ErrorCode::kInvalidData, "{}: tensor {} is {}, the config asks for {}", info.file,
                weight.name, info.shape.text(), weight.shape.text());
  }
  return source.view(weight.name);
}

[[noreturn]] void throw_dtype(const TensorSource& source, const WeightSpec& weight,
                              std::string_view wanted) {
  const TensorInfo& info = require_tensor(source, weight.name);
  throw_error(ErrorCode::kInvalidData, "{}: tensor {} is {}, the CPU reads {} there", info.file,
              weight.name, dtype_name(info.dtype), wanted);
}

Matrix bind_matrix(const TensorSource& source, const WeightSpec& weight) {
  Matrix matrix{checked_view(source, weight), {}};
  const DType dtype = matrix.weight.dtype;
  if (dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16) return matrix;
  if (dtype != DType::kF8E4M3 || !weight.quantised) {
    throw_dtype(source, weight,
                weight.quantised ? "fp8_e4m3, f32, f16 or bf16" : "f32, f16 or bf16");
  }
  WeightSpec scale = weight;
  scale.name += "_scale_inv";
  scale.shape = Shape{(weight.shape[0] + kScaleBlock - 1) / kScaleBlock,
                      (weight.shape[1] + kScaleBlock - 1) / kScaleBlock};
  matrix.scale_inv = checked_view(source, scale);
  if (matrix.scale_inv.dtype != DType::kF32 && matrix.scale_inv.dtype != DType::kBF16) {
    throw_dtype(source, scale, "f32 or bf16");
  }
  return matrix;
}

template <typename Element>
void copy_as_float(const TensorView& view, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Element element;
    std::memcpy(&element, view.data + i * sizeof(Element), sizeof(Element));
    out[i] = to_float(element);
  }
}

// In float32: the same numbers, without the use of 8 bits.
Matrix widened(const Matrix& matrix, Buffer& out) {
  const auto columns = static_cast<std::size_t>(matrix.in());
  const std::size_t n = static_cast<std::size_t>(matrix.out()) * columns;
  std::vector<float> scales(static_cast<std::size_t>(matrix.scale_inv.shape.elements()));
  if (matrix.scale_inv.dtype == DType::kBF16) {
    copy_as_float<Bf16>(matrix.scale_inv, scales);
  } else {
    copy_as_float<float>(matrix.scale_inv, scales);
  }
  const auto block = static_cast<std::size_t>(kScaleBlock);
  const std::size_t blocks_wide = (columns + block - 1) / block;
  out = Buffer(n * sizeof(float));
  const std::span<float> wide = out.as<float>().first(n);
  copy_as_float<F8E4M3>(matrix.weight, wide);
  for (std::size_t i = 0; i < n; ++i) {
    wide[i] *= scales[i / columns / block * blocks_wide + i % columns / block];
  }
  return {{DType::kF32, matrix.weight.shape, out.bytes().data()}, {}};
}

void bind_vector(const TensorSource& source, const WeightSpec& weight, std::span<float> out) {
  const TensorView view = checked_view(source, weight);
  switch (view.dtype) {
    case DType::kF32:
      return copy_as_float<float>(view, out);
    case DType::kF16:
      return copy_as_float<F16>(view, out);
    case DType::kBF16:
      return copy_as_float<Bf16>(view, out);
    default:
      throw_dtype(source, weight, "f32, f16 or bf16");
  }
}

}  // namespace

std::uint64_t Weights::vector_elements(const ModelSpec& spec) {
  std::uint64_t elements = 0;
  for (const WeightSpec& weight : weights_of(spec)) {
    if (is_vector(weight)) elements += static_cast<std::uint64_t>(weight.shape[0]);
  }
  return elements;
}

Weights::Weights(const ModelSpec& spec, const TensorSource& source, std::span<float> vectors)
    : layers_(spec.layers.size()), first_expert_(spec.layers.size()) {
  std::size_t n_experts = 0;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    first_expert_[i] = n_experts;
    if (spec.layers[i].moe) n_experts += static_cast<std::size_t>(spec.layers[i].moe->n_experts);
  }
  experts_.resize(n_experts);

  for (const WeightSpec& weight : weights_of(spec)) {
    if (!is_vector(weight)) {
      Matrix matrix = bind_matrix(source, weight);
      if (is_bypassed("fp8") && matrix.weight.dtype == DType::kF8E4M3) {
        matrix = widened(matrix, widened_.emplace_back());
      }
      *matrix_slot(weight) = matrix;
      continue;
    }
    const auto n = static_cast<std::size_t>(weight.shape[0]);
    MOEOPT_CHECK(vectors.size() >= n);
    bind_vector(source, weight, vectors.first(n));
    *vector_slot(weight) = vectors.first(n);
    vectors = vectors.subspan(n);
  }
  if (spec.tied_embeddings) lm_head_ = embedding_;

  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    if (!spec.layers[i].moe) continue;
    const MoeSpec& moe = *spec.layers[i].moe;
    layers_[i].moe.spec = &moe;
    layers_[i].moe.experts = std::span<const SwigluWeights>(experts_).subspan(
        first_expert_[i], static_cast<std::size_t>(moe.n_experts));
  }
}

SwigluWeights& Weights::expert(int layer, int expert) {
  return experts_[first_expert_[static_cast<std::size_t>(layer)] +
                  static_cast<std::size_t>(expert)];
}

Matrix* Weights::matrix_slot(const WeightSpec& weight) {
  if (weight.role == WeightRole::kEmbedding) return &embedding_;
  if (weight.role == WeightRole::kLmHead) return &lm_head_;
  LayerWeights& layer = layers_[static_cast<std::size_t>(weight.layer)];
  switch (weight.role) {
    case WeightRole::kQ:
      return &layer.q;
    case WeightRole::kK:
      return &layer.k;
    case WeightRole::kV:
      return &layer.v;
    case WeightRole::kO:
      return &layer.o;
    case WeightRole::kQA:
      return &layer.q_a;
    case WeightRole::kQB:
      return &layer.q_b;
    case WeightRole::kKvA:
      return &layer.kv_a;
    case WeightRole::kKvB:
      return &layer.kv_b;
    case WeightRole::kDenseGate:
      return &layer.dense.gate;
    case WeightRole::kDenseUp:
      return &layer.dense.up;
    case WeightRole::kDenseDown:
      return &layer.dense.down;
    case WeightRole::kRouter:
      return &layer.moe.router;
    case WeightRole::kExpertGate:
      return &expert(weight.layer, weight.expert).gate;
    case WeightRole::kExpertUp:
      return &expert(weight.layer, weight.expert).up;
    case WeightRole::kExpertDown:
      return &expert(weight.layer, weight.expert).down;
    case WeightRole::kSharedGate:
      return &layer.moe.shared.gate;
    case WeightRole::kSharedUp:
      return &layer.moe.shared.up;
    case WeightRole::kSharedDown:
      return &layer.moe.shared.down;
    case WeightRole::kSharedExpertGate:
      return &layer.moe.shared_expert_gate;
    default:
      break;
  }
  MOEOPT_CHECK(weight.role == WeightRole::kEmbedding);  // a matrix role without a place
  return nullptr;
}

std::span<const float>* Weights::vector_slot(const WeightSpec& weight) {
  if (weight.role == WeightRole::kFinalNorm) return &final_norm_;
  LayerWeights& layer = layers_[static_cast<std::size_t>(weight.layer)];
  switch (weight.role) {
    case WeightRole::kAttentionNorm:
      return &layer.attention_norm;
    case WeightRole::kMlpNorm:
      return &layer.mlp_norm;
    case WeightRole::kQBias:
      return &layer.q_bias;
    case WeightRole::kKBias:
      return &layer.k_bias;
    case WeightRole::kVBias:
      return &layer.v_bias;
    case WeightRole::kOBias:
      return &layer.o_bias;
    case WeightRole::kQNorm:
      return &layer.q_norm;
    case WeightRole::kKNorm:
      return &layer.k_norm;
    case WeightRole::kQANorm:
      return &layer.q_a_norm;
    case WeightRole::kKvANorm:
      return &layer.kv_a_norm;
    case WeightRole::kRouterBias:
      return &layer.moe.router_bias;
    default:
      break;
  }
  MOEOPT_CHECK(weight.role == WeightRole::kFinalNorm);  // a vector role without a place
  return nullptr;
}

}  // namespace moeopt::cpu
