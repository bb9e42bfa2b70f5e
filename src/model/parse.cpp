#include "model/parse.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/strings.h"
#include "model/config_reader.h"
#include "model/family/family.h"
#include "model/quantisation.h"

namespace moeopt {
namespace {

namespace limits = config_limits;

struct FamilyEntry {
  Family family;
  std::string_view architecture;
  std::string_view model_type;
  double norm_epsilon;  // when the config is silent, as Transformers has it
  void (*parse)(const ConfigReader&, ModelSpec&);
};

constexpr std::array<FamilyEntry, 6> kFamilies = {{
    {Family::kQwen3Moe, "Qwen3MoeForCausalLM", "qwen3_moe", 1e-6, parse_qwen3_moe},
    {Family::kQwen2Moe, "Qwen2MoeForCausalLM", "qwen2_moe", 1e-6, parse_qwen2_moe},
    {Family::kMixtral, "MixtralForCausalLM", "mixtral", 1e-5, parse_mixtral},
    {Family::kDeepseekV2, "DeepseekV2ForCausalLM", "deepseek_v2", 1e-6, parse_deepseek_v2},
    {Family::kDeepseekV3, "DeepseekV3ForCausalLM", "deepseek_v3", 1e-6, parse_deepseek_v3},
    {Family::kUnknown, "", "", 1e-6, parse_generic},
}};

// By architecture; by model_type only when no architecture is named.
const FamilyEntry& find_family(std::string_view architecture, std::string_view model_type) {
  for (const FamilyEntry& entry : kFamilies) {
    if (architecture.empty() ? model_type == entry.model_type
                             : architecture == entry.architecture) {
      return entry;
    }
  }
  return kFamilies.back();
}

DType read_dtype(const ConfigReader& config, ModelSpec& spec) {
  const std::string_view field = config.has("dtype") ? "dtype" : "torch_dtype";
  std::string name = config.text_or(field, "bfloat16");
  if (name.starts_with("torch.")) name = name.substr(6);
  if (name == "bfloat16" || name == "auto") return DType::kBF16;
  if (name == "float16") return DType::kF16;
  if (name == "float32") return DType::kF32;
  set_not_runnable(spec, fmt::format("{} \"{}\" is not bfloat16, float16 or float32", field,
                                     printable(name, 40)));
  return DType::kBF16;
}

void read_common(const ConfigReader& config, double norm_epsilon, ModelSpec& spec) {
  spec.vocab = config.integer("vocab_size", 1, limits::kVocab);
  spec.hidden = config.extent("hidden_size", limits::kHidden);
  spec.norm_epsilon = config.number_or("rms_norm_eps", norm_epsilon, 0.0, 1.0);
  spec.tied_embeddings = config.flag_or("tie_word_embeddings", false);
  spec.max_position = config.integer_or("max_position_embeddings", 4096, 1, limits::kPosition);
  constexpr std::size_t kMaxEosIds = 64;
  for (const std::int64_t id : config.integers("eos_token_id", 0, INT32_MAX, kMaxEosIds)) {
    spec.eos_ids.push_back(static_cast<std::int32_t>(id));
  }
  if (config.has("bos_token_id")) {
    spec.bos_id = static_cast<std::int32_t>(config.integer("bos_token_id", 0, INT32_MAX));
  }
}

// What every family must satisfy, so that readers divide and allocate without checking.
void check_layers(const ConfigReader& config, const ModelSpec& spec) {
  std::int64_t routed_experts = 0;
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.moe) continue;
    const MoeSpec& moe = *layer.moe;
    routed_experts += moe.n_experts;
    const RouterSpec& router = moe.router;
    if (moe.top_k > moe.n_experts) {
      config.refuse("num_experts_per_tok",
                    fmt::format("{} experts a token of only {}", moe.top_k, moe.n_experts));
    }
    if (moe.n_experts % router.n_groups != 0) {
      config.refuse("n_group",
                    fmt::format("{} does not divide {} experts", router.n_groups, moe.n_experts));
    }
    if (router.top_k_groups > router.n_groups) {
      config.refuse("topk_group",
                    fmt::format("{} groups of only {}", router.top_k_groups, router.n_groups));
    }
    const int group_size = moe.n_experts / router.n_groups;
    if (router.n_groups > 1 && router.group_score == GroupScore::kTopTwoSum && group_size < 2) {
      config.refuse("n_group", "leaves groups of one expert, whose two best scores are summed");
    }
    if (moe.top_k > router.top_k_groups * group_size) {
      config.refuse("topk_group",
                    fmt::format("{} groups hold {} experts, {} are chosen a token",
                                router.top_k_groups, router.top_k_groups * group_size, moe.top_k));
    }
  }
  if (routed_experts > limits::kRoutedExpertsOfModel) {
    config.refuse("num_hidden_layers",
                  fmt::format("{} routed experts in all layers, the limit is {}", routed_experts,
                              limits::kRoutedExpertsOfModel));
  }
}

}  // namespace

ModelSpec parse_model_spec(const Json& json, std::string_view where) {
  const ConfigReader config(json, std::string(where));
  constexpr std::size_t kMaxArchitectures = 16;
  const std::vector<std::string> architectures = config.texts("architectures", kMaxArchitectures);

  ModelSpec spec;
  if (!architectures.empty()) spec.architecture = printable(architectures.front(), 80);
  spec.model_type = printable(config.text_or("model_type", ""), 80);
  const FamilyEntry& family = find_family(spec.architecture, spec.model_type);
  spec.family = family.family;
  if (spec.architecture.empty()) spec.architecture = family.architecture;

  read_quantisation(config, spec);
  spec.dtype = read_dtype(config, spec);
  if (family.family != Family::kUnknown) read_common(config, family.norm_epsilon, spec);
  family.parse(config, spec);
  check_layers(config, spec);
  return spec;
}

void require_runnable(const ModelSpec& spec, std::string_view where) {
  if (!spec.not_runnable) return;
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("{}: {} is not run: {}", where,
                  spec.architecture.empty() ? "this model" : spec.architecture, *spec.not_runnable),
      spec.not_runnable_hint);
}

}  // namespace moeopt
