#include "plan/gpu_estimate.h"

#include <algorithm>

#include "tensor/dtype.h"

namespace moeopt {
namespace {

constexpr std::uint64_t kRowElementBytes = sizeof(Bf16);
constexpr std::uint64_t kSets = 2;  // of buffers that the next step fills while this one is read

struct Extents {
  std::int64_t heads = 0;  // elements of a row of q, k, v and the attention's output
  std::int64_t top_k = 0;
  std::int64_t expert = 0;  // inner width
  std::int64_t plain = 0;   // inner width of dense and shared MLPs
};

Extents extents_of(const ModelSpec& spec) {
  Extents e;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    e.heads = std::max(e.heads, std::int64_t{a.n_heads} * (a.qk_head_dim + a.v_head_dim) +
                                    std::int64_t{a.n_kv_heads} * (a.qk_head_dim + a.v_head_dim));
    e.plain = std::max<std::int64_t>(e.plain, layer.dense_intermediate);
    if (!layer.moe) continue;
    e.top_k = std::max<std::int64_t>(e.top_k, layer.moe->top_k);
    e.expert = std::max<std::int64_t>(e.expert, layer.moe->intermediate);
    e.plain = std::max<std::int64_t>(e.plain, layer.moe->shared_intermediate);
  }
  return e;
}

std::uint64_t bytes_of(std::int64_t rows, std::int64_t width, std::uint64_t element_bytes) {
  return static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(width) * element_bytes;
}

}  // namespace

std::vector<WorkspaceBuffer> gpu_workspace(const ModelSpec& spec, const ExecutionLimits& limits) {
  const Extents e = extents_of(spec);
  const std::int64_t rows = limits.max_step_tokens;
  const std::uint64_t bf16 = kRowElementBytes;
  return {
      {"activations", bytes_of(rows, 3 * std::int64_t{spec.hidden} + e.heads, bf16)},
      {"expert rows", bytes_of(rows * e.top_k, e.expert + spec.hidden, bf16)},
      {"MLP rows", bytes_of(rows, e.plain, bf16)},
      {"logits", bytes_of(limits.max_logit_rows, spec.vocab, sizeof(float))},
      {"sampler", bytes_of(limits.max_sequences, spec.vocab, 2 * sizeof(std::uint16_t))},
      {"block tables",
       bytes_of(limits.max_sequences, limits.blocks_per_sequence(), kSets * sizeof(std::int32_t))},
  };
}

std::vector<WorkspaceBuffer> gpu_communication(const ModelSpec& spec,
                                               const ExecutionLimits& limits) {
  const Extents e = extents_of(spec);
  const std::int64_t rows = limits.max_step_tokens;
  const std::uint64_t set = kSets * kRowElementBytes;
  return {
      {"dispatch", bytes_of(rows, spec.hidden, set)},
      {"combine", bytes_of(rows, spec.hidden, set)},
      {"attention sums", bytes_of(rows, spec.hidden, kRowElementBytes)},
      {"routes", bytes_of(rows, e.top_k, kSets * (sizeof(std::int32_t) + sizeof(float)))},
  };
}

}  // namespace moeopt
