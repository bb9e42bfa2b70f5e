// inspection_json(): an Inspection for programs. Field names are an interface: add, never rename.
#include <algorithm>

#include "model/inspect.h"

namespace moeopt {
namespace {

std::string_view family_name(Family family) {
  switch (family) {
    case Family::kQwen3Moe:
      return "qwen3_moe";
    case Family::kQwen2Moe:
      return "qwen2_moe";
    case Family::kMixtral:
      return "mixtral";
    case Family::kDeepseekV2:
      return "deepseek_v2";
    case Family::kDeepseekV3:
      return "deepseek_v3";
    case Family::kUnknown:
      break;
  }
  return "unknown";
}

Json moe_json(const MoeSpec& moe) {
  const RouterSpec& router = moe.router;
  return {{"n_experts", moe.n_experts},
          {"top_k", moe.top_k},
          {"intermediate", moe.intermediate},
          {"shared_intermediate", moe.shared_intermediate},
          {"shared_expert_gate", moe.shared_expert_gate},
          {"router",
           {{"score", router.score == RouterScore::kSoftmax ? "softmax" : "sigmoid"},
            {"correction_bias", router.correction_bias},
            {"n_groups", router.n_groups},
            {"top_k_groups", router.top_k_groups},
            {"renormalise", router.renormalise},
            {"scale", router.scale}}}};
}

Json attention_json(const AttentionSpec& attention) {
  Json json = {{"kind", attention.kind == AttentionKind::kMla ? "mla" : "gqa"},
               {"n_heads", attention.n_heads},
               {"n_kv_heads", attention.n_kv_heads},
               {"qk_head_dim", attention.qk_head_dim},
               {"v_head_dim", attention.v_head_dim},
               {"qk_norm", attention.qk_norm},
               {"qkv_bias", attention.qkv_bias}};
  if (attention.kind == AttentionKind::kMla) {
    json["q_lora_rank"] = attention.q_lora_rank;
    json["kv_lora_rank"] = attention.kv_lora_rank;
    json["qk_nope_dim"] = attention.qk_nope_dim;
    json["qk_rope_dim"] = attention.qk_rope_dim;
  }
  return json;
}

Json layers_json(const ModelSpec& spec) {
  const auto count = [&](const auto& holds) {
    return std::count_if(spec.layers.begin(), spec.layers.end(), holds);
  };
  return {{"total", spec.layers.size()},
          {"moe", count([](const LayerSpec& layer) { return layer.moe.has_value(); })},
          {"dense", count([](const LayerSpec& layer) { return !layer.moe.has_value(); })},
          {"sliding_window", count([](const LayerSpec& layer) {
             return layer.attention.sliding_window.has_value();
           })}};
}

Json weights_json(const Inspection& inspection) {
  Json classes = Json::array();
  for (int i = 0; i < kWeightClasses; ++i) {
    const Inspection::ClassSize& size = inspection.classes[static_cast<std::size_t>(i)];
    if (size.bytes == 0 && size.parameters == 0) continue;
    classes.push_back({{"class", weight_class_name(static_cast<WeightClass>(i))},
                       {"parameters", size.parameters},
                       {"bytes", size.bytes}});
  }
  Json dtypes = Json::object();
  for (const auto& [name, bytes] : inspection.bytes_by_dtype) dtypes[name] = bytes;
  return {{"bytes", inspection.weight_bytes},
          {"exact", inspection.exact},
          {"by_class", classes},
          {"by_dtype", dtypes}};
}

}  // namespace

Json inspection_json(const Inspection& inspection) {
  const ModelSpec& spec = inspection.spec;
  Json json = {{"name", inspection.name},
               {"architecture", spec.architecture},
               {"model_type", spec.model_type},
               {"family", family_name(spec.family)},
               {"hidden", spec.hidden},
               {"vocab", spec.vocab},
               {"max_position", spec.max_position},
               {"tied_embeddings", spec.tied_embeddings},
               {"layers", layers_json(spec)},
               {"attention", attention_json(spec.layers.front().attention)},
               {"parameters",
                {{"total", inspection.counts.total},
                 {"active", inspection.counts.active},
                 {"embedding", inspection.counts.embedding}}},
               {"weights", weights_json(inspection)},
               {"kv_bytes_per_token", inspection.kv_bytes_per_token},
               {"gpu_rule", kGpuRule}};
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.moe) continue;
    json["moe"] = moe_json(*layer.moe);
    break;
  }
  for (const GpuNeed& gpu : inspection.gpus) {
    json["gpus"].push_back({{"gpu", gpu.name},
                            {"memory_bytes", gpu.memory_bytes},
                            {"count", gpu.count == 0 ? Json() : Json(gpu.count)}});
  }
  json["runs"] = !spec.not_runnable && !inspection.weights_problem;
  if (spec.not_runnable) json["reason"] = *spec.not_runnable;
  if (!spec.not_runnable_hint.empty()) json["hint"] = spec.not_runnable_hint;
  if (inspection.weights_problem) json["reason"] = *inspection.weights_problem;
  return json;
}

}  // namespace moeopt
