// weights_of() and weight_name(): which tensors a checkpoint of a ModelSpec holds.
#include "base/check.h"
#include "model/model_spec.h"

namespace moeopt {
namespace {

void replace_index(std::string& name, std::string_view placeholder, int value) {
  if (const std::size_t at = name.find(placeholder); at != std::string::npos) {
    MOEOPT_CHECK(value >= 0);
    name.replace(at, placeholder.size(), std::to_string(value));
  }
}

bool is_linear_of_layer(WeightRole role) {
  switch (role) {
    case WeightRole::kQ:
    case WeightRole::kK:
    case WeightRole::kV:
    case WeightRole::kO:
    case WeightRole::kQA:
    case WeightRole::kQB:
    case WeightRole::kKvA:
    case WeightRole::kKvB:
    case WeightRole::kDenseGate:
    case WeightRole::kDenseUp:
    case WeightRole::kDenseDown:
    case WeightRole::kExpertGate:
    case WeightRole::kExpertUp:
    case WeightRole::kExpertDown:
    case WeightRole::kSharedGate:
    case WeightRole::kSharedUp:
    case WeightRole::kSharedDown:
      return true;
    default:
      return false;
  }
}

// Whether a quantised checkpoint leaves this tensor as it is: its module, an ancestor of it or a
// dotted tail of it is listed.
bool is_kept(const ModelSpec& spec, std::string_view tensor) {
  if (spec.unquantised_modules.empty()) return false;
  const std::string_view module = tensor.substr(0, tensor.rfind('.'));
  const auto listed = [&](std::string_view name) {
    return spec.unquantised_modules.contains(name);
  };
  if (listed(module)) return true;
  for (std::size_t dot = module.find('.'); dot != std::string_view::npos;
       dot = module.find('.', dot + 1)) {
    if (listed(module.substr(0, dot)) || listed(module.substr(dot + 1))) return true;
  }
  return false;
}

class WeightList {
 public:
  explicit WeightList(const ModelSpec& spec) : spec_(spec) {}

  void matrix(WeightRole role, std::int64_t out, std::int64_t in, int layer = -1, int expert = -1) {
    add(role, {out, in}, layer, expert);
  }
  void vector(WeightRole role, std::int64_t size, int layer = -1) { add(role, {size}, layer, -1); }

  std::vector<WeightSpec> take() { return std::move(weights_); }

 private:
  void add(WeightRole role, Shape shape, int layer, int expert) {
    std::string name = weight_name(spec_, role, layer, expert);
    const bool quantised = spec_.quantisation == Quantisation::kFp8Block128 &&
                           is_linear_of_layer(role) && !is_kept(spec_, name);
    weights_.push_back({role, layer, expert, std::move(name), shape, quantised});
  }

  const ModelSpec& spec_;
  std::vector<WeightSpec> weights_;
};

void add_gqa(WeightList& list, const AttentionSpec& a, std::int64_t hidden, int layer) {
  const std::int64_t q = std::int64_t{a.n_heads} * a.qk_head_dim;
  const std::int64_t k = std::int64_t{a.n_kv_heads} * a.qk_head_dim;
  const std::int64_t v = std::int64_t{a.n_kv_heads} * a.v_head_dim;
  list.matrix(WeightRole::kQ, q, hidden, layer);
  list.matrix(WeightRole::kK, k, hidden, layer);
  list.matrix(WeightRole::kV, v, hidden, layer);
  list.matrix(WeightRole::kO, hidden, std::int64_t{a.n_heads} * a.v_head_dim, layer);
  if (a.qkv_bias) {
    list.vector(WeightRole::kQBias, q, layer);
    list.vector(WeightRole::kKBias, k, layer);
    list.vector(WeightRole::kVBias, v, layer);
  }
  if (a.o_bias) list.vector(WeightRole::kOBias, hidden, layer);
  if (a.qk_norm) {
    list.vector(WeightRole::kQNorm, a.qk_head_dim, layer);
    list.vector(WeightRole::kKNorm, a.qk_head_dim, layer);
  }
}

void add_mla(WeightList& list, const AttentionSpec& a, std::int64_t hidden, int layer) {
  const std::int64_t q = std::int64_t{a.n_heads} * a.qk_head_dim;
  if (a.q_lora_rank > 0) {
    list.matrix(WeightRole::kQA, a.q_lora_rank, hidden, layer);
    list.vector(WeightRole::kQANorm, a.q_lora_rank, layer);
    list.matrix(WeightRole::kQB, q, a.q_lora_rank, layer);
  } else {
    list.matrix(WeightRole::kQ, q, hidden, layer);
  }
  list.matrix(WeightRole::kKvA, std::int64_t{a.kv_lora_rank} + a.qk_rope_dim, hidden, layer);
  list.vector(WeightRole::kKvANorm, a.kv_lora_rank, layer);
  list.matrix(WeightRole::kKvB, std::int64_t{a.n_heads} * (a.qk_nope_dim + a.v_head_dim),
              a.kv_lora_rank, layer);
  list.matrix(WeightRole::kO, hidden, std::int64_t{a.n_heads} * a.v_head_dim, layer);
}

void add_moe(WeightList& list, const MoeSpec& moe, std::int64_t hidden, int layer) {
  list.matrix(WeightRole::kRouter, moe.n_experts, hidden, layer);
  if (moe.router.correction_bias) list.vector(WeightRole::kRouterBias, moe.n_experts, layer);
  for (int expert = 0; expert < moe.n_experts; ++expert) {
    list.matrix(WeightRole::kExpertGate, moe.intermediate, hidden, layer, expert);
    list.matrix(WeightRole::kExpertUp, moe.intermediate, hidden, layer, expert);
    list.matrix(WeightRole::kExpertDown, hidden, moe.intermediate, layer, expert);
  }
  if (moe.shared_intermediate == 0) return;
  list.matrix(WeightRole::kSharedGate, moe.shared_intermediate, hidden, layer);
  list.matrix(WeightRole::kSharedUp, moe.shared_intermediate, hidden, layer);
  list.matrix(WeightRole::kSharedDown, hidden, moe.shared_intermediate, layer);
  if (moe.shared_expert_gate) list.matrix(WeightRole::kSharedExpertGate, 1, hidden, layer);
}

}  // namespace

std::string weight_name(const ModelSpec& spec, WeightRole role, int layer, int expert) {
  const auto pattern = spec.weight_names.find(role);
  MOEOPT_CHECK(pattern != spec.weight_names.end());
  std::string name = pattern->second;
  replace_index(name, "{layer}", layer);
  replace_index(name, "{expert}", expert);
  return name;
}

std::vector<WeightSpec> weights_of(const ModelSpec& spec) {
  WeightList list(spec);
  const std::int64_t hidden = spec.hidden;
  list.matrix(WeightRole::kEmbedding, spec.vocab, hidden);
  for (int i = 0; i < static_cast<int>(spec.layers.size()); ++i) {
    const LayerSpec& layer = spec.layers[static_cast<std::size_t>(i)];
    list.vector(WeightRole::kAttentionNorm, hidden, i);
    if (layer.attention.kind == AttentionKind::kMla) {
      add_mla(list, layer.attention, hidden, i);
    } else {
      add_gqa(list, layer.attention, hidden, i);
    }
    list.vector(WeightRole::kMlpNorm, hidden, i);
    if (layer.moe) {
      add_moe(list, *layer.moe, hidden, i);
    } else {
      list.matrix(WeightRole::kDenseGate, layer.dense_intermediate, hidden, i);
      list.matrix(WeightRole::kDenseUp, layer.dense_intermediate, hidden, i);
      list.matrix(WeightRole::kDenseDown, hidden, layer.dense_intermediate, i);
    }
  }
  list.vector(WeightRole::kFinalNorm, hidden);
  if (!spec.tied_embeddings) list.matrix(WeightRole::kLmHead, spec.vocab, hidden);
  return list.take();
}

}  // namespace moeopt
