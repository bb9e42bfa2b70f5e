// The operations of one forward pass on the CPU. cpu/forward.cpp calls them in the model's order;
// cpu/reference implements them plainly (the specification), cpu/fast by tiles.
// Invariant: each output row depends on its own input row and its own sequence's history alone, in
// an order of summation fixed by the shapes: its bits are the same alone or in any batch, in a
// chunk or token by token.
// Activations are float32, row-major [rows, width]. The stored contract: where a weight is f16,
// bf16 or fp8 a matrix product rounds its input to bf16 first and accumulates in float32 (for fp8,
// the products of 128 consecutive inputs are summed, scaled by their block's scale, then added to
// the total); with f32 weights it rounds nothing. x of moe and swiglu, and the h inside them, are
// such inputs; slot rows and outputs stay float32.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "model/model_spec.h"
#include "plan/kv_layout.h"
#include "tensor/tensor.h"

namespace moeopt::cpu {

// [out, in] as stored: f32, f16, bf16, or e4m3 with one scale per 128x128 block (w = e4m3 * scale).
struct Matrix {
  TensorView weight;
  TensorView scale_inv;  // data == nullptr unless e4m3; f32 (or bf16) [ceil(out/128), ceil(in/128)]
  int out() const { return static_cast<int>(weight.shape[0]); }
  int in() const { return static_cast<int>(weight.shape[1]); }
};

struct SwigluWeights {
  Matrix gate, up;  // [intermediate, hidden]
  Matrix down;      // [hidden, intermediate]
};

struct MoeWeights {
  const MoeSpec* spec = nullptr;
  Matrix router;                       // [experts, hidden]
  std::span<const float> router_bias;  // correction bias, empty when there is none
  std::span<const SwigluWeights> experts;
  SwigluWeights shared;       // used when spec->shared_intermediate > 0
  Matrix shared_expert_gate;  // [1, hidden], when spec->shared_expert_gate
};

// What the router decided, for counting and for the tests; [rows, top_k] each, in slot order.
struct Routing {
  std::span<std::int32_t> experts;
  std::span<float> weights;
};

// One sequence's rows in a step and its place in the paged cache. The rows' own keys and values are
// already written when attention runs.
struct SequenceRows {
  int first_row;
  int n_rows;
  int first_position;
  std::span<const std::int32_t> block_table;
};

// All blocks of one layer: block b, plane p starts at data + b * layout.block_bytes() + offset(p).
struct KvBlocks {
  const KvLayout* layout = nullptr;
  std::byte* data = nullptr;
};

class CpuOps {
 public:
  virtual ~CpuOps() = default;

  virtual std::string name() const = 0;  // "reference", "fast (amx)"
  virtual DType kv_dtype() const = 0;    // that attention reads and write_kv stores

  // Memory for the ops' intermediate values: bytes for steps of up to `max_rows` rows over
  // sequences of up to `max_context` tokens.
  virtual std::uint64_t scratch_bytes(const ModelSpec& spec, int max_rows,
                                      int max_context) const = 0;
  // Called once before the first op, with 64-byte aligned memory of at least scratch_bytes() that
  // the caller planned and keeps alive. Ops allocate nothing else.
  virtual void set_scratch(std::span<std::byte> scratch) = 0;

  // out[r] = table[ids[r]]
  virtual void embed(const Matrix& table, std::span<const std::int32_t> ids, float* out) = 0;
  // out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * weight; `width` = weight.size(). In place
  // allowed.
  virtual void rms_norm(const float* x, int rows, std::span<const float> weight, double epsilon,
                        float* out) = 0;
  // to[i] += x[i]
  virtual void add(const float* x, std::size_t n, float* to) = 0;
  // out[r] = W x[r] + bias; bias may be empty.
  virtual void linear(const float* x, int rows, const Matrix& w, std::span<const float> bias,
                      float* out) = 0;
  // Rotates, in place, the rope.dim() values that start at x + row * row_stride + head *
  // head_stride (strides in floats), row r by positions[r].
  virtual void rope(float* x, int rows, int n_heads, int head_stride, int row_stride,
                    const RopeSpec& rope, std::span<const std::int32_t> positions) = 0;
  // Stores rows [rows, plane elements] into plane `plane` at each row's position.
  virtual void write_kv(const float* x, std::span<const SequenceRows> sequences, int plane,
                        KvBlocks kv) = 0;
  // Causal softmax attention over the cache. q [rows, n_heads * qk_head_dim] -> out [rows, n_heads
  // * v_head_dim].
  virtual void attention_gqa(const float* q, const AttentionSpec& spec,
                             std::span<const SequenceRows> sequences, KvBlocks kv, float* out) = 0;
  // The same in MLA's latent space (DeepSeek-V2, 2405.04434, appendix C): kv_b [n_heads *
  // (qk_nope_dim + v_head_dim), kv_lora_rank] is absorbed into the query and the output.
  virtual void attention_mla(const float* q, const AttentionSpec& spec, const Matrix& kv_b,
                             std::span<const SequenceRows> sequences, KvBlocks kv, float* out) = 0;
  // out[r] = down (silu(gate x) * (up x))
  virtual void swiglu(const float* x, int rows, const SwigluWeights& w, float* out) = 0;
  // The whole MoE layer: router, top-k (ties to the lower id), experts, shared expert, combine in
  // slot order. `routing` receives what was chosen.
  virtual void moe(const float* x, int rows, const MoeWeights& w, Routing routing, float* out) = 0;
};

enum class Precision {
  kFloat,   // float32 activations throughout, weights widened exactly: what a model "really" says
  kStored,  // the stored contract above, which the fast tiles follow
};

// Plain loops in float32 on the calling thread; every rounding point is visible in the code. The
// KV cache is float32.
std::unique_ptr<CpuOps> make_reference_ops(Precision precision = Precision::kFloat);

// Tiles for the best instruction set of this CPU, or the named one ("amx", "avx512bf16",
// "avx512", "avx2", "portable"; Error(kUsage) when the CPU lacks it), on `threads` threads.
std::unique_ptr<CpuOps> make_fast_ops(int threads, const std::string& isa);

}  // namespace moeopt::cpu
