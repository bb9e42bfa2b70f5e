// One function per family: fills in what config.json says about layers and names their weights.
// parse_model_spec() has already read the fields that all families share; a family sets
// `not_runnable` for what it understands but nothing here computes.
#pragma once

#include <functional>
#include <string>

#include "model/config_reader.h"
#include "model/model_spec.h"

namespace moeopt {

void parse_qwen3_moe(const ConfigReader& config, ModelSpec& spec);
void parse_qwen2_moe(const ConfigReader& config, ModelSpec& spec);
void parse_mixtral(const ConfigReader& config, ModelSpec& spec);
void parse_deepseek_v2(const ConfigReader& config, ModelSpec& spec);
void parse_deepseek_v3(const ConfigReader& config, ModelSpec& spec);

// Any other architecture whose expert fields are recognised: good for counting and planning, never
// runnable. Error(kUnsupported) when there are no experts to be found.
void parse_generic(const ConfigReader& config, ModelSpec& spec);

// Parts that families share.

int read_layer_count(const ConfigReader& config);

// Heads, head size, softmax scale and spec.rope of grouped-query attention.
AttentionSpec read_gqa(const ConfigReader& config, ModelSpec& spec, double default_theta);

// DeepSeek's latent attention, with its rope and softmax scale; rope pairs interleaved or not.
AttentionSpec read_mla(const ConfigReader& config, ModelSpec& spec, bool interleaved);

// Keeps the first reason.
void set_not_runnable(ModelSpec& spec, std::string reason, std::string hint = {});

// Reasons that hold in every family: an activation other than SiLU, biases in the MLP.
void check_mlp(const ConfigReader& config, ModelSpec& spec);

// Appends `n` layers; those for which `is_moe(i)` holds get `moe`, the others a dense MLP.
void append_layers(ModelSpec& spec, int n, const AttentionSpec& attention, const MoeSpec& moe,
                   int dense_intermediate, const std::function<bool(int)>& is_moe);

// True for the layers that Qwen's decoder_sparse_step and mlp_only_layers make sparse.
std::function<bool(int)> read_qwen_sparsity(const ConfigReader& config, int n_layers);

// Weight names that Llama-like decoders share, and those of the Qwen and DeepSeek expert layout.
void name_decoder_weights(ModelSpec& spec);
void name_expert_weights(ModelSpec& spec);

}  // namespace moeopt
