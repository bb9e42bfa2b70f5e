#include "cpu/forward.h"

#include <algorithm>
#include <cstring>

#include "backend/expert_choices.h"
#include "base/check.h"

namespace moeopt::cpu {

Forward::Forward(const ModelSpec& spec, const Weights& weights, CpuOps& ops, const KvLayout& layout,
                 std::span<std::byte> kv, int kv_blocks, const ForwardBuffers& buffers)
    : spec_(spec),
      weights_(weights),
      ops_(ops),
      layout_(layout),
      kv_(kv),
      kv_blocks_(kv_blocks),
      buffers_(buffers) {
  MOEOPT_CHECK(kv.size() >= layout.block_bytes() * static_cast<std::uint64_t>(kv_blocks) *
                                static_cast<std::uint64_t>(layout.n_layers));
  int n_moe = 0;
  for (const LayerSpec& layer : spec.layers) moe_index_.push_back(layer.moe ? n_moe++ : -1);
}

int Forward::max_experts(const ModelSpec& spec) {
  int experts = 0;
  for (const LayerSpec& layer : spec.layers) {
    if (layer.moe) experts = std::max(experts, layer.moe->n_experts);
  }
  return experts;
}

KvBlocks Forward::blocks_of(int layer) const {
  const std::uint64_t first =
      static_cast<std::uint64_t>(layer) * static_cast<std::uint64_t>(kv_blocks_);
  return {&layout_, kv_.data() + first * layout_.block_bytes()};
}

void Forward::copy_block(int from, int to) {
  const std::uint64_t bytes = layout_.block_bytes();
  for (int layer = 0; layer < layout_.n_layers; ++layer) {
    std::byte* blocks = blocks_of(layer).data;
    std::memcpy(blocks + static_cast<std::uint64_t>(to) * bytes,
                blocks + static_cast<std::uint64_t>(from) * bytes, bytes);
  }
}

void Forward::run(const ForwardStep& step) {
  const int rows = static_cast<int>(step.ids.size());
  ops_.embed(weights_.embedding(), step.ids, buffers_.residual.data());
  for (int layer = 0; layer < static_cast<int>(spec_.layers.size()); ++layer) {
    const LayerWeights& w = weights_.layer(layer);
    ops_.rms_norm(buffers_.residual.data(), rows, w.attention_norm, spec_.norm_epsilon,
                  buffers_.normed.data());
    if (spec_.layers[static_cast<std::size_t>(layer)].attention.kind == AttentionKind::kMla) {
      attend_mla(step, layer);
    } else {
      attend_gqa(step, layer);
    }
    linear(buffers_.context.data(), rows, w.o, w.o_bias, buffers_.branch.data());
    add_branch(rows);

    ops_.rms_norm(buffers_.residual.data(), rows, w.mlp_norm, spec_.norm_epsilon,
                  buffers_.normed.data());
    feed_forward(step, layer);
    add_branch(rows);
  }
  project_logits(step);
}

void Forward::linear(const float* x, int rows, const Matrix& w, std::span<const float> bias,
                     float* out) {
  ops_.linear(x, rows, w, bias, out);
  count_fp8(w, 1);
}

void Forward::count_fp8(const Matrix& w, std::uint64_t products) {
  if (w.weight.dtype == DType::kF8E4M3) {
    counters_.fp8_matrix_products.fetch_add(products, std::memory_order_relaxed);
  }
}

void Forward::add_branch(int rows) {
  const auto n = static_cast<std::size_t>(rows) * static_cast<std::size_t>(spec_.hidden);
  ops_.add(buffers_.branch.data(), n, buffers_.residual.data());
}

void Forward::publish_kv(const ForwardStep& step, int layer) const {
  if (step.kv_layers_done != nullptr) {
    step.kv_layers_done->store(layer + 1, std::memory_order_release);
  }
}

void Forward::attend_gqa(const ForwardStep& step, int layer) {
  const AttentionSpec& a = spec_.layers[static_cast<std::size_t>(layer)].attention;
  const LayerWeights& w = weights_.layer(layer);
  const int rows = static_cast<int>(step.ids.size());
  float* q = buffers_.query.data();
  float* k = buffers_.key.data();
  float* v = buffers_.value.data();
  linear(buffers_.normed.data(), rows, w.q, w.q_bias, q);
  linear(buffers_.normed.data(), rows, w.k, w.k_bias, k);
  linear(buffers_.normed.data(), rows, w.v, w.v_bias, v);
  if (a.qk_norm) {
    ops_.rms_norm(q, rows * a.n_heads, w.q_norm, spec_.norm_epsilon, q);
    ops_.rms_norm(k, rows * a.n_kv_heads, w.k_norm, spec_.norm_epsilon, k);
  }
  const int head = a.qk_head_dim;
  ops_.rope(q, rows, a.n_heads, head, a.n_heads * head, spec_.rope, step.positions);
  ops_.rope(k, rows, a.n_kv_heads, head, a.n_kv_heads * head, spec_.rope, step.positions);

  const KvBlocks blocks = blocks_of(layer);
  ops_.write_kv(k, step.sequences, 0, blocks);
  ops_.write_kv(v, step.sequences, 1, blocks);
  publish_kv(step, layer);
  ops_.attention_gqa(q, a, step.sequences, blocks, buffers_.context.data());
}

void Forward::attend_mla(const ForwardStep& step, int layer) {
  const AttentionSpec& a = spec_.layers[static_cast<std::size_t>(layer)].attention;
  const LayerWeights& w = weights_.layer(layer);
  const int rows = static_cast<int>(step.ids.size());
  const float* normed = buffers_.normed.data();
  float* q = buffers_.query.data();
  if (a.q_lora_rank > 0) {
    float* q_lora = buffers_.query_lora.data();
    linear(normed, rows, w.q_a, {}, q_lora);
    ops_.rms_norm(q_lora, rows, w.q_a_norm, a.lora_norm_epsilon, q_lora);
    linear(q_lora, rows, w.q_b, {}, q);
  } else {
    linear(normed, rows, w.q, {}, q);
  }
  ops_.rope(q + a.qk_nope_dim, rows, a.n_heads, a.qk_head_dim, a.n_heads * a.qk_head_dim,
            spec_.rope, step.positions);

  // kv_a gives [latent, rope] per row; the cache keeps each part's rows together.
  const std::ptrdiff_t width = a.kv_lora_rank + a.qk_rope_dim;
  float* joined = buffers_.latent.data();
  float* latent = joined + rows * width;
  float* rope = latent + static_cast<std::ptrdiff_t>(rows) * a.kv_lora_rank;
  linear(normed, rows, w.kv_a, {}, joined);
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const float* row = joined + r * width;
    std::copy_n(row, a.kv_lora_rank, latent + r * a.kv_lora_rank);
    std::copy_n(row + a.kv_lora_rank, a.qk_rope_dim, rope + r * a.qk_rope_dim);
  }
  ops_.rms_norm(latent, rows, w.kv_a_norm, a.lora_norm_epsilon, latent);
  ops_.rope(rope, rows, 1, a.qk_rope_dim, a.qk_rope_dim, spec_.rope, step.positions);

  const KvBlocks blocks = blocks_of(layer);
  ops_.write_kv(latent, step.sequences, 0, blocks);
  ops_.write_kv(rope, step.sequences, 1, blocks);
  publish_kv(step, layer);
  count_fp8(w.kv_b, 2);
  ops_.attention_mla(q, a, w.kv_b, step.sequences, blocks, buffers_.context.data());
}

void Forward::feed_forward(const ForwardStep& step, int layer) {
  const LayerSpec& spec = spec_.layers[static_cast<std::size_t>(layer)];
  const LayerWeights& w = weights_.layer(layer);
  const int rows = static_cast<int>(step.ids.size());
  float* branch = buffers_.branch.data();
  if (!spec.moe) {
    ops_.swiglu(buffers_.normed.data(), rows, w.dense, branch);
    count_fp8(w.dense.gate, 3);
    return;
  }
  const std::size_t routed =
      static_cast<std::size_t>(rows) * static_cast<std::size_t>(spec.moe->top_k);
  const Routing routing{buffers_.routing_experts.first(routed),
                        buffers_.routing_weights.first(routed)};
  ops_.moe(buffers_.normed.data(), rows, w.moe, routing, branch);

  const std::size_t stride = step.expert_counts.size() / spec_.layers.size();
  const auto counts = step.expert_counts.subspan(static_cast<std::size_t>(layer) * stride, stride);
  count_choices(routing.experts, counts);
  const auto used = std::ranges::count_if(counts, [](std::uint32_t n) { return n > 0; });
  count_fp8(w.moe.experts.front().gate, 3 * static_cast<std::uint64_t>(used));
  if (spec.moe->shared_intermediate > 0) count_fp8(w.moe.shared.gate, 3);
  counters_.moe_layer_launches.fetch_add(1, std::memory_order_relaxed);
  counters_.expert_rows.fetch_add(routed, std::memory_order_relaxed);
  if (!step.route_ids.empty()) keep_routes(step, layer, routing);
}

void Forward::keep_routes(const ForwardStep& step, int layer, const Routing& routing) const {
  const auto rows = step.ids.size();
  const auto width = static_cast<std::size_t>(step.route_top_k);
  const auto top_k = routing.experts.size() / rows;
  const auto filled = std::min(top_k, width);
  const std::size_t first =
      static_cast<std::size_t>(moe_index_[static_cast<std::size_t>(layer)]) * rows * width;
  for (std::size_t row = 0; row < rows; ++row) {
    const auto ids = step.route_ids.subspan(first + row * width, width);
    const auto weights = step.route_weights.subspan(first + row * width, width);
    for (std::size_t slot = 0; slot < filled; ++slot) {
      ids[slot] = static_cast<std::int16_t>(routing.experts[row * top_k + slot]);
      weights[slot] = routing.weights[row * top_k + slot];
    }
    std::ranges::fill(ids.subspan(filled), std::int16_t{-1});
    std::ranges::fill(weights.subspan(filled), 0.0f);
  }
}

void Forward::project_logits(const ForwardStep& step) {
  const auto hidden = static_cast<std::size_t>(spec_.hidden);
  float* gathered = buffers_.normed.data();
  for (std::size_t i = 0; i < step.logit_rows.size(); ++i) {
    const auto row = static_cast<std::size_t>(step.logit_rows[i]);
    std::ranges::copy(buffers_.residual.subspan(row * hidden, hidden), gathered + i * hidden);
  }
  const int rows = static_cast<int>(step.logit_rows.size());
  if (rows == 0) return;
  ops_.rms_norm(gathered, rows, weights_.final_norm(), spec_.norm_epsilon, gathered);
  linear(gathered, rows, weights_.lm_head(), {}, step.logits.data());
}

}  // namespace moeopt::cpu
