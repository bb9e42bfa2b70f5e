// The forward pass: embed, then per layer {norm, attention, norm, MoE or dense MLP}, and the logits
// of the rows that are sampled. Calls CpuOps in the model's order and owns nothing but counters.
// Invariant: allocates nothing; every buffer was planned (plan/workspace.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cpu/ops.h"
#include "cpu/weights.h"
#include "plan/kv_layout.h"

namespace moeopt::cpu {

// Activations of one step, [rows, width]; the widths are the widest of any layer's.
struct ForwardBuffers {
  std::span<float> residual, normed, branch;
  std::span<float> query, key, value, context;
  std::span<float> query_lora, latent;  // MLA; latent: kv_a's output, then the latent and rope rows
  std::span<std::int32_t> routing_experts;
  std::span<float> routing_weights;
};

// What to compute. Rows are the step's tokens, sequence after sequence.
struct ForwardStep {
  std::span<const std::int32_t> ids;
  std::span<const std::int32_t> positions;
  std::span<const SequenceRows> sequences;
  std::span<const std::int32_t> logit_rows;  // rows whose logits are wanted
  std::span<float> logits;                   // [logit_rows, vocab]
  std::span<std::uint32_t> expert_counts;    // [layers, max experts], added to
  // Empty, or [MoE layers, rows, route_top_k]: where to keep what the routers chose.
  std::span<std::int16_t> route_ids;
  std::span<float> route_weights;
  int route_top_k = 0;
  std::atomic<int>* kv_layers_done =
      nullptr;  // raised as each layer's keys and values are in place
};

// Counted where the work is done.
struct ForwardCounters {
  std::atomic<std::uint64_t> moe_layer_launches{0};
  std::atomic<std::uint64_t> expert_rows{0};
  std::atomic<std::uint64_t> fp8_matrix_products{0};
};

class Forward {
 public:
  // `kv`: [layers][kv_blocks] regions of layout.block_bytes().
  Forward(const ModelSpec& spec, const Weights& weights, CpuOps& ops, const KvLayout& layout,
          std::span<std::byte> kv, int kv_blocks, const ForwardBuffers& buffers);

  // All layers of a block.
  void copy_block(int from, int to);
  void run(const ForwardStep& step);

  const ForwardCounters& counters() const { return counters_; }
  static int max_experts(const ModelSpec& spec);  // of any layer, 0 when all are dense

 private:
  void linear(const float* x, int rows, const Matrix& w, std::span<const float> bias, float* out);
  void count_fp8(const Matrix& w, std::uint64_t products);
  void attend_gqa(const ForwardStep& step, int layer);
  void attend_mla(const ForwardStep& step, int layer);
  void feed_forward(const ForwardStep& step, int layer);
  void keep_routes(const ForwardStep& step, int layer, const Routing& routing) const;
  void project_logits(const ForwardStep& step);
  void publish_kv(const ForwardStep& step, int layer) const;
  KvBlocks blocks_of(int layer) const;
  void add_branch(int rows);  // residual += branch

  const ModelSpec& spec_;
  const Weights& weights_;
  CpuOps& ops_;
  const KvLayout& layout_;
  std::span<std::byte> kv_;
  int kv_blocks_;
  ForwardBuffers buffers_;
  ForwardCounters counters_;
  std::vector<int> moe_index_;  // of each layer among the MoE layers, -1 for a dense one
};

}  // namespace moeopt::cpu
