// Any architecture whose expert fields go by a known name: enough is read to count parameters and
// to plan memory, nothing of it is run.
#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "base/error.h"
#include "base/strings.h"
#include "model/family/family.h"

namespace moeopt {
namespace {

namespace limits = config_limits;
using Names = std::span<const std::string_view>;

constexpr auto kExpertNames = std::to_array<std::string_view>(
    {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts",
     "num_routed_experts", "n_experts", "num_moe_experts", "moe_num_primary_experts"});
constexpr auto kTopKNames = std::to_array<std::string_view>(
    {"num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_top_k",
     "moe_k", "num_selected_experts"});
constexpr auto kIntermediateNames = std::to_array<std::string_view>(
    {"moe_intermediate_size", "moe_ffn_hidden_size", "expert_ffn_hidden_size", "ffn_hidden_size",
     "intermediate_size"});
constexpr auto kSharedCountNames = std::to_array<std::string_view>(
    {"n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"});
constexpr auto kSharedSizeNames =
    std::to_array<std::string_view>({"shared_expert_intermediate_size", "shared_intermediate_size",
                                     "moe_shared_expert_intermediate_size", "share_expert_dim"});
constexpr auto kInnerConfigs = std::to_array<std::string_view>(
    {"text_config", "llm_config", "language_config", "thinker_config"});
constexpr auto kHeadNames = std::to_array<std::string_view>({"n_heads", "n_head", "num_heads"});
constexpr auto kFirstSparseNames = std::to_array<std::string_view>(
    {"first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"});
constexpr auto kHiddenNames = std::to_array<std::string_view>({"hidden_size", "d_model", "n_embd"});
constexpr auto kPositionNames =
    std::to_array<std::string_view>({"max_position_embeddings", "max_seq_len", "n_positions"});
constexpr auto kLayerNames =
    std::to_array<std::string_view>({"num_hidden_layers", "n_layers", "num_layers", "n_layer"});
constexpr auto kDenseNames =
    std::to_array<std::string_view>({"intermediate_size_mlp", "intermediate_size"});

// The first of `names` that the config has, else the first name of all (for the message).
std::string_view present(const ConfigReader& config, Names names) {
  for (const std::string_view name : names) {
    if (config.has(name)) return name;
  }
  return names.front();
}

// A field that some models give per layer: the largest counts.
std::int64_t largest(const ConfigReader& config, std::string_view field, std::int64_t fallback,
                     std::int64_t low, std::int64_t high) {
  const auto values = config.integers(field, low, high, limits::kLayers);
  return values.empty() ? fallback : *std::max_element(values.begin(), values.end());
}

bool has_experts(const ConfigReader& config) {
  return largest(config, present(config, kExpertNames), 0, 0, limits::kExperts) > 0;
}

// The object that describes the language model: the config itself, or the text part of a multimodal
// one.
ConfigReader find_text_config(const ConfigReader& config, ModelSpec& spec, int depth = 0) {
  if (has_experts(config) || depth > 2) return config;
  for (const std::string_view name : kInnerConfigs) {
    if (const auto inner = config.child(name)) {
      set_not_runnable(spec, "multimodal: the text part alone is inspected");
      return find_text_config(*inner, spec, depth + 1);
    }
  }
  return config;
}

int read_extent(const ConfigReader& config, Names names, std::int64_t high) {
  return config.extent(present(config, names), high);
}

MoeSpec read_moe(const ConfigReader& config) {
  MoeSpec moe;
  const auto read = [&](Names names, std::int64_t high) {
    const std::string_view name = present(config, names);
    const std::int64_t value = largest(config, name, 0, 1, high);
    if (value == 0) config.refuse(name, "is missing");
    return static_cast<int>(value);
  };
  moe.n_experts = read(kExpertNames, limits::kExperts);
  moe.top_k = read(kTopKNames, limits::kExperts);
  moe.intermediate = read(kIntermediateNames, limits::kIntermediate);
  std::int64_t shared =
      largest(config, present(config, kSharedSizeNames), 0, 0, limits::kIntermediate);
  if (shared == 0) {
    shared = moe.intermediate *
             largest(config, present(config, kSharedCountNames), 0, 0, limits::kExperts);
  }
  if (shared > limits::kIntermediate) {
    config.refuse(present(config, kSharedCountNames),
                  fmt::format("makes a shared expert of size {}, the limit is {}", shared,
                              limits::kIntermediate));
  }
  moe.shared_intermediate = static_cast<int>(shared);
  return moe;
}

// Grouped-query attention, or latent attention when the config has its ranks.
AttentionSpec read_attention(const ConfigReader& config, ModelSpec& spec) {
  if (config.has("kv_lora_rank")) return read_mla(config, spec, true);
  if (config.has("num_attention_heads")) return read_gqa(config, spec, 10000.0);
  AttentionSpec attention;
  attention.n_heads = read_extent(config, kHeadNames, limits::kHeads);
  attention.n_kv_heads = attention.n_heads;
  if (const auto inner = config.child("attn_config")) {
    attention.n_kv_heads = inner->extent_or("kv_n_heads", attention.n_heads, limits::kHeads);
  }
  if (spec.hidden % attention.n_heads != 0 || attention.n_heads % attention.n_kv_heads != 0) {
    config.refuse("n_heads", "does not divide the hidden size, or its key heads do not divide it");
  }
  attention.qk_head_dim = spec.hidden / attention.n_heads;
  attention.v_head_dim = attention.qk_head_dim;
  attention.softmax_scale = 1.0 / std::sqrt(static_cast<double>(attention.qk_head_dim));
  return attention;
}

// Which layers are sparse, by every rule that is known.
std::function<bool(int)> read_sparsity(const ConfigReader& config, int n_layers) {
  const std::function<bool(int)> qwen = read_qwen_sparsity(config, n_layers);
  const auto first = config.integer_or(present(config, kFirstSparseNames), 0, 0, limits::kLayers);
  const auto step = config.integer_or("interleave_moe_layer_step", 1, 1, limits::kLayers);
  const auto period = config.integer_or("expert_layer_period", 1, 1, limits::kLayers);
  const auto offset = config.integer_or("expert_layer_offset", 0, 0, limits::kLayers);
  const auto pattern = config.integers("moe_layer_freq", 0, limits::kLayers, limits::kLayers);
  return [=](int layer) {
    if (!qwen(layer) || layer < first) return false;
    if ((layer + 1) % step != 0 || layer % period != offset % period) return false;
    if (pattern.size() == 1) return pattern[0] > 0 && layer % pattern[0] == 0;
    if (static_cast<std::size_t>(layer) < pattern.size()) {
      return pattern[static_cast<std::size_t>(layer)] != 0;
    }
    return true;
  };
}

}  // namespace

void parse_generic(const ConfigReader& outer, ModelSpec& spec) {
  const ConfigReader config = find_text_config(outer, spec);
  const ConfigReader experts = config.child("ffn_config").value_or(config);
  if (!has_experts(experts)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: {} has no experts (no num_experts, num_local_experts, "
                            "n_routed_experts ...)",
                            outer.where(), spec.architecture.empty() ? "it" : spec.architecture),
                "this program serves Mixture-of-Experts models");
  }
  set_not_runnable(spec,
                   fmt::format("the architecture {} is not built",
                               spec.architecture.empty() ? "(unnamed)" : spec.architecture),
                   "Qwen3-MoE, Qwen2-MoE, Mixtral, DeepSeek-V2 and DeepSeek-V3 are run");

  spec.vocab = config.integer("vocab_size", 1, limits::kVocab);
  spec.hidden = read_extent(config, kHiddenNames, limits::kHidden);
  spec.max_position =
      config.integer_or(present(config, kPositionNames), 4096, 1, limits::kPosition);
  spec.tied_embeddings = config.flag_or("tie_word_embeddings", false);
  const int n_layers = read_extent(config, kLayerNames, limits::kLayers);
  const AttentionSpec attention = read_attention(config, spec);
  const MoeSpec moe = read_moe(experts);
  const int dense = static_cast<int>(
      largest(config, present(config, kDenseNames), moe.intermediate, 1, limits::kIntermediate));
  append_layers(spec, n_layers, attention, moe, dense, read_sparsity(config, n_layers));
  name_decoder_weights(spec);
  name_expert_weights(spec);
}

}  // namespace moeopt
