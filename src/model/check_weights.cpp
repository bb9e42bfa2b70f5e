#include "model/check_weights.h"

#include <charconv>
#include <unordered_set>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "base/strings.h"
#include "checkpoint/fp8_blocks.h"

namespace moeopt {
namespace {

bool is_plain_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

[[noreturn]] void refuse(const TensorInfo& info, const std::string& why) {
  throw_error(ErrorCode::kInvalidData, "{}: {}: {}", info.file, printable(info.name), why);
}

[[noreturn]] void refuse_missing(const ModelSpec& spec, const TensorSource& source,
                                 const std::string& name) {
  std::string hint = "the config and the weights belong to different models, or a file is missing";
  if (!spec.layers.empty() && source.find("model.layers.0.mlp.experts.gate_up_proj") != nullptr) {
    hint = "its experts are stored fused; a hub checkpoint has one tensor an expert";
  }
  throw Error(ErrorCode::kInvalidData,
              fmt::format("{}: tensor {} is missing", source.describe(), name), hint);
}

const TensorInfo& require(const ModelSpec& spec, const TensorSource& source,
                          const std::string& name, const Shape& shape) {
  const TensorInfo* info = source.find(name);
  if (info == nullptr) refuse_missing(spec, source, name);
  if (info->shape != shape) {
    refuse(*info,
           fmt::format("has shape {}, config.json makes it {}", info->shape.text(), shape.text()));
  }
  return *info;
}

void check_one(const ModelSpec& spec, const TensorSource& source, const WeightSpec& weight,
               std::unordered_set<std::string>& expected) {
  const TensorInfo& info = require(spec, source, weight.name, weight.shape);
  expected.insert(weight.name);
  if (!weight.quantised) {
    if (is_plain_float(info.dtype)) return;
    refuse(info, fmt::format("is {}, must be f32, f16 or bf16{}", dtype_name(info.dtype),
                             info.dtype == DType::kF8E4M3
                                 ? " (no quantization_config in config.json makes it fp8)"
                                 : ""));
  }
  if (info.dtype != DType::kF8E4M3) {
    refuse(info, fmt::format("is {}, quantization_config in config.json makes it {}",
                             dtype_name(info.dtype), dtype_name(DType::kF8E4M3)));
  }
  const std::string scale = fp8_scale_name(weight.name);
  const TensorInfo& scale_info = require(spec, source, scale, fp8_scale_shape(weight.shape));
  expected.insert(scale);
  if (scale_info.dtype != DType::kF32 && scale_info.dtype != DType::kBF16) {
    refuse(scale_info, fmt::format("is {}, must be f32 or bf16", dtype_name(scale_info.dtype)));
  }
}

// A tensor that models carry and that takes no part in the forward pass.
bool is_known_extra(const ModelSpec& spec, std::string_view name) {
  constexpr std::string_view kLayers = "model.layers.";
  if (name.ends_with("rotary_emb.inv_freq")) return true;
  if (spec.tied_embeddings && name == "lm_head.weight") return true;
  if (!name.starts_with(kLayers)) return false;
  name.remove_prefix(kLayers.size());
  std::size_t layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' &&
         layer >= spec.layers.size();
}

}  // namespace

void check_weights(const ModelSpec& spec, const TensorSource& source) {
  MOEOPT_CHECK(!spec.not_runnable.has_value());
  std::unordered_set<std::string> expected;
  for (const WeightSpec& weight : weights_of(spec)) check_one(spec, source, weight, expected);

  std::size_t n_extra = 0;
  std::string first_extra;
  for (const TensorInfo* info : source.list()) {
    if (expected.contains(info->name) || is_known_extra(spec, info->name)) continue;
    if (n_extra++ == 0) first_extra = info->name;
  }
  if (n_extra > 0) {
    log::warning("{}: {} tensor{} not used by {}, such as {}", source.describe(), n_extra,
                 n_extra == 1 ? " is" : "s are", spec.architecture, printable(first_extra));
  }
}

}  // namespace moeopt
