#include "plan/workspace.h"

#include <algorithm>

#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace moeopt {
namespace {

constexpr std::uint64_t kFloatBytes = sizeof(float);
// Of types above plan/, which the backend holds to these figures.
constexpr std::uint64_t kSampledTokenBytes = 40, kTokenLogprobBytes = 8, kLogprobs = 20,
                        kSequenceRowsBytes = 32;

std::uint64_t rounded(std::uint64_t bytes) {
  return (bytes + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
}

std::uint64_t product(std::int64_t a, std::int64_t b) {
  return static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b);
}

// The widest of what the layers need; layers may differ.
struct Widths {
  int query = 0, key = 0, value = 0, query_lora = 0, latent = 0, context = 0;
  int top_k = 0, experts = 0, moe_layers = 0, slot_intermediate = 0, plain_intermediate = 0;
};

Widths widths_of(const ModelSpec& spec) {
  Widths w;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    w.query = std::max(w.query, a.n_heads * a.qk_head_dim);
    w.context = std::max(w.context, a.n_heads * a.v_head_dim);
    if (a.kind == AttentionKind::kMla) {
      w.query_lora = std::max(w.query_lora, a.q_lora_rank);
      w.latent = std::max(w.latent, a.kv_lora_rank + a.qk_rope_dim);
    } else {
      w.key = std::max(w.key, a.n_kv_heads * a.qk_head_dim);
      w.value = std::max(w.value, a.n_kv_heads * a.v_head_dim);
    }
    w.plain_intermediate = std::max(w.plain_intermediate, layer.dense_intermediate);
    if (!layer.moe) continue;
    w.moe_layers += 1;
    w.top_k = std::max(w.top_k, layer.moe->top_k);
    w.experts = std::max(w.experts, layer.moe->n_experts);
    w.slot_intermediate = std::max(w.slot_intermediate, layer.moe->intermediate);
    w.plain_intermediate = std::max(w.plain_intermediate, layer.moe->shared_intermediate);
  }
  return w;
}

// Elements of the norms and biases, which the CPU keeps as float32.
std::uint64_t vector_elements(const ModelSpec& spec) {
  std::uint64_t elements = static_cast<std::uint64_t>(spec.hidden);
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    std::int64_t n = 2 * std::int64_t{spec.hidden};
    if (a.kind == AttentionKind::kMla) n += a.q_lora_rank + a.kv_lora_rank;
    if (a.qk_norm) n += 2 * std::int64_t{a.qk_head_dim};
    if (a.qkv_bias) {
      n += std::int64_t{a.n_heads} * a.qk_head_dim +
           std::int64_t{a.n_kv_heads} * (a.qk_head_dim + a.v_head_dim);
    }
    if (a.o_bias) n += spec.hidden;
    if (layer.moe && layer.moe->router.correction_bias) n += layer.moe->n_experts;
    elements += static_cast<std::uint64_t>(n);
  }
  return elements;
}

// As StepPlan lays itself out: a header, then each array from a 64-byte boundary.
std::uint64_t step_plan_bytes(const ExecutionLimits& limits) {
  constexpr std::uint64_t kHeader = 20, kToken = 4, kSequence = 20, kBlock = 4, kSample = 12,
                          kCopy = 8;
  const std::int64_t sequences = limits.max_sequences;
  return rounded(kHeader) + rounded(product(limits.max_step_tokens, kToken)) +
         rounded(product(sequences, kSequence)) +
         rounded(product(sequences, limits.blocks_per_sequence()) * kBlock) +
         rounded(product(limits.max_step_tokens, kSample)) + rounded(product(sequences, kCopy));
}

}  // namespace

std::vector<WorkspaceBuffer> cpu_workspace(const ModelSpec& spec, const ExecutionLimits& limits,
                                           const ScratchFormula& scratch) {
  const Widths w = widths_of(spec);
  const std::int64_t rows = limits.max_step_tokens;
  std::vector<WorkspaceBuffer> buffers;
  const auto add = [&](std::string name, std::uint64_t bytes) {
    if (bytes > 0) buffers.push_back({std::move(name), rounded(bytes)});
  };
  const auto add_rows = [&](std::string name, std::int64_t width) {
    add(std::move(name), product(rows, width) * kFloatBytes);
  };
  add_rows("residual", spec.hidden);
  add_rows("normed", spec.hidden);
  add_rows("branch", spec.hidden);
  add_rows("query", w.query);
  add_rows("query_lora", w.query_lora);
  add_rows("key", w.key);
  add_rows("value", w.value);
  add_rows("latent", 2 * std::int64_t{w.latent});
  add_rows("context", w.context);
  add("routing", product(rows, w.top_k) * (sizeof(std::int32_t) + kFloatBytes));
  const std::uint64_t results = 2 * product(limits.max_logit_rows, 1);
  add("logits", results * product(spec.vocab, 1) * kFloatBytes);
  add("sampled", results * kSampledTokenBytes);
  add("logprobs", results * kLogprobs * kTokenLogprobBytes);
  add("sampler", product(limits.max_sequences, spec.vocab) * 2 * sizeof(std::uint16_t) +
                     product(limits.max_sequences, (spec.vocab + 63) / 64) * sizeof(std::uint64_t));
  add("sort", product(spec.vocab, 1) * (2 * kFloatBytes + sizeof(std::int32_t)));
  add("expert_counts", 2 * product(static_cast<std::int64_t>(spec.layers.size()), w.experts) *
                           sizeof(std::uint32_t));
  if (limits.record_routes) {
    add("routes", 2 * product(rows, w.top_k) * product(w.moe_layers, 1) *
                      (sizeof(std::int16_t) + kFloatBytes));
  }
  add("step_plans", 2 * step_plan_bytes(limits));
  add("step_rows",
      (3 * product(rows, 1) + product(limits.max_logit_rows, 1)) * sizeof(std::int32_t));
  add("step_sequences", product(limits.max_sequences, 1) * kSequenceRowsBytes);
  add("vectors", vector_elements(spec) * kFloatBytes);
  add("scratch", scratch
                     ? scratch(spec, limits.max_step_tokens, limits.max_model_len)
                     : default_scratch_bytes(spec, limits.max_step_tokens, limits.max_model_len));
  return buffers;
}

std::uint64_t default_scratch_bytes(const ModelSpec& spec, int max_rows,
                                    std::int64_t /*max_context*/) {
  const Widths w = widths_of(spec);
  const std::int64_t slots = std::int64_t{max_rows} * std::max(w.top_k, 1);
  const std::uint64_t gathered = product(slots, spec.hidden) * sizeof(Bf16);
  const std::uint64_t slot_rows =
      product(slots, std::int64_t{w.slot_intermediate} + spec.hidden) * kFloatBytes;
  const std::uint64_t plain = product(max_rows, w.plain_intermediate) * kFloatBytes;
  return gathered + slot_rows + plain;
}

std::uint64_t total_bytes(const std::vector<WorkspaceBuffer>& buffers) {
  std::uint64_t total = 0;
  for (const WorkspaceBuffer& buffer : buffers) total += buffer.bytes;
  return total;
}

}  // namespace moeopt
