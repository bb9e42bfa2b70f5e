#include "model/model_util.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/fp8_blocks.h"

namespace moeopt {
namespace {

std::string describe(const RopeSpec& rope) {
  return fmt::format("rope {} x {} interleaved {}", rope.inverse_frequencies, rope.magnitude,
                     rope.interleaved);
}

std::string describe(const AttentionSpec& a) {
  return fmt::format("kind {} heads {}/{} dims {}/{} scale {} bias {}/{} norm {} window {} mla {}",
                     a.kind == AttentionKind::kMla, a.n_heads, a.n_kv_heads, a.qk_head_dim,
                     a.v_head_dim, a.softmax_scale, a.qkv_bias, a.o_bias, a.qk_norm,
                     a.sliding_window.value_or(-1),
                     std::vector<int>{a.q_lora_rank, a.kv_lora_rank, a.qk_nope_dim, a.qk_rope_dim});
}

std::string describe(const MoeSpec& moe) {
  const RouterSpec& r = moe.router;
  return fmt::format(
      "experts {} top {} size {} shared {} gate {} sigmoid {} bias {} groups {}/{} sum {} "
      "renormalise {} + {} scale {}",
      moe.n_experts, moe.top_k, moe.intermediate, moe.shared_intermediate, moe.shared_expert_gate,
      r.score == RouterScore::kSigmoid, r.correction_bias, r.top_k_groups, r.n_groups,
      r.group_score == GroupScore::kTopTwoSum, r.renormalise, r.renormalise_epsilon, r.scale);
}

}  // namespace

std::filesystem::path golden_folder(std::string_view name) {
  return std::filesystem::path(MOEOPT_SOURCE_DIR) / "tests/golden" / name;
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder(""))) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Json golden_config(std::string_view name) {
  return parse_json_file(golden_folder(name) / "config.json");
}

std::string describe(const ModelSpec& spec) {
  std::string text = fmt::format(
      "{} {} vocab {} hidden {} eps {} tied {} position {} dtype {} fp8 {} eos {} bos {} reason {} "
      "kept {}\n{}\n",
      static_cast<int>(spec.family), spec.architecture, spec.vocab, spec.hidden, spec.norm_epsilon,
      spec.tied_embeddings, spec.max_position, dtype_name(spec.dtype),
      spec.quantisation == Quantisation::kFp8Block128, spec.eos_ids, spec.bos_id.value_or(-1),
      spec.not_runnable.value_or("none"), spec.unquantised_modules, describe(spec.rope));
  for (const LayerSpec& layer : spec.layers) {
    text += fmt::format(
        "{}; {}\n", describe(layer.attention),
        layer.moe ? describe(*layer.moe) : fmt::format("dense {}", layer.dense_intermediate));
  }
  for (const auto& [role, name] : spec.weight_names) {
    text += fmt::format("{} {}\n", static_cast<int>(role), name);
  }
  return text;
}

HeaderSource::HeaderSource(const ModelSpec& spec, DType dtype) {
  for (const WeightSpec& weight : weights_of(spec)) {
    set(weight.name, weight.quantised ? DType::kF8E4M3 : dtype, weight.shape);
    if (weight.quantised) {
      set(fp8_scale_name(weight.name), DType::kF32, fp8_scale_shape(weight.shape));
    }
  }
}

void HeaderSource::set(const std::string& name, DType dtype, const Shape& shape) {
  const auto bytes = static_cast<std::uint64_t>(shape.elements()) * dtype_bytes(dtype);
  tensors_[name] = {name, dtype, shape, bytes, "model.safetensors"};
}

const TensorInfo* HeaderSource::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

TensorView HeaderSource::view(std::string_view name) const {
  throw_error(ErrorCode::kInternal, "{}: has no data", name);
}

std::vector<const TensorInfo*> HeaderSource::list() const {
  std::vector<const TensorInfo*> out;
  for (const auto& [name, info] : tensors_) out.push_back(&info);
  return out;
}

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error was thrown";
  return Error(ErrorCode::kInternal, "");
}

}  // namespace moeopt
