// The reference backend's operations: one row at a time, on the calling thread.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "cpu/ops.h"
#include "cpu/reference/attention.h"
#include "cpu/reference/matrix.h"
#include "cpu/reference/moe_layer.h"

namespace moeopt::cpu::reference {
namespace {

class ReferenceOps final : public CpuOps {
 public:
  explicit ReferenceOps(Precision precision) : precision_(precision) {}

  std::string name() const override {
    return precision_ == Precision::kFloat ? "reference" : "reference (stored)";
  }
  DType kv_dtype() const override { return DType::kF32; }

  std::uint64_t scratch_bytes(const ModelSpec& spec, int /*max_rows*/,
                              int max_context) const override {
    auto elements = static_cast<std::size_t>(spec.hidden);
    for (const LayerSpec& layer : spec.layers) {
      const AttentionSpec& attention = layer.attention;
      const int widest_input = std::max({attention.n_heads * attention.v_head_dim,
                                         attention.q_lora_rank, attention.kv_lora_rank});
      elements = std::max(elements, static_cast<std::size_t>(widest_input));
      elements = std::max(elements, attention_scratch(attention, max_context));
      elements =
          std::max(elements, layer.moe ? moe_layer_scratch(*layer.moe, spec.hidden)
                                       : swiglu_scratch(spec.hidden, layer.dense_intermediate));
    }
    return elements * sizeof(float);
  }

  void set_scratch(std::span<std::byte> scratch) override {
    scratch_ = {reinterpret_cast<float*>(scratch.data()), scratch.size() / sizeof(float)};
  }

  void embed(const Matrix& table, std::span<const std::int32_t> ids, float* out) override {
    for (const std::int32_t id : ids) {
      widen_row(table, id, out);
      out += table.in();
    }
  }

  void rms_norm(const float* x, int rows, std::span<const float> weight, double epsilon,
                float* out) override {
    const std::size_t width = weight.size();
    for (int r = 0; r < rows; ++r, x += width, out += width) {
      double sum = 0;
      for (std::size_t i = 0; i < width; ++i) sum += static_cast<double>(x[i]) * x[i];
      const double mean = sum / static_cast<double>(width);
      const auto factor = static_cast<float>(1.0 / std::sqrt(mean + epsilon));
      for (std::size_t i = 0; i < width; ++i) out[i] = x[i] * factor * weight[i];
    }
  }

  void add(const float* x, std::size_t n, float* to) override {
    for (std::size_t i = 0; i < n; ++i) to[i] += x[i];
  }

  void linear(const float* x, int rows, const Matrix& w, std::span<const float> bias,
              float* out) override {
    const auto in = static_cast<std::size_t>(w.in());
    for (int r = 0; r < rows; ++r, x += in, out += w.out()) {
      matrix_vector<float>(w, input_row({x, in}, w), nullptr, out);
      for (std::size_t o = 0; o < bias.size(); ++o) out[o] += bias[o];
    }
  }

  void rope(float* x, int rows, int n_heads, int head_stride, int row_stride, const RopeSpec& rope,
            std::span<const std::int32_t> positions) override {
    const int pairs = rope.dim() / 2;
    for (int r = 0; r < rows; ++r) {
      for (int i = 0; i < pairs; ++i) {
        const double angle = positions[r] * rope.inverse_frequencies[i];
        const auto cosine = static_cast<float>(std::cos(angle) * rope.magnitude);
        const auto sine = static_cast<float>(std::sin(angle) * rope.magnitude);
        float* first =
            x + static_cast<std::ptrdiff_t>(r) * row_stride + (rope.interleaved ? 2 * i : i);
        for (int head = 0; head < n_heads; ++head, first += head_stride) {
          float* second = first + (rope.interleaved ? 1 : pairs);
          const float a = *first;
          const float b = *second;
          *first = a * cosine - b * sine;
          *second = b * cosine + a * sine;
        }
      }
    }
  }

  void write_kv(const float* x, std::span<const SequenceRows> sequences, int plane,
                KvBlocks kv) override {
    const std::ptrdiff_t width = kv.layout->planes[plane].elements;
    for (const SequenceRows& sequence : sequences) {
      for (int r = 0; r < sequence.n_rows; ++r) {
        store_kv(x + (sequence.first_row + r) * width, kv, sequence.block_table, plane,
                 sequence.first_position + r);
      }
    }
  }

  void attention_gqa(const float* q, const AttentionSpec& spec,
                     std::span<const SequenceRows> sequences, KvBlocks kv, float* out) override {
    for (const SequenceRows& sequence : sequences) {
      reference::attention_gqa(q, spec, sequence, kv, out, scratch_);
    }
  }

  void attention_mla(const float* q, const AttentionSpec& spec, const Matrix& kv_b,
                     std::span<const SequenceRows> sequences, KvBlocks kv, float* out) override {
    for (const SequenceRows& sequence : sequences) {
      reference::attention_mla(q, spec, kv_b, rounds_input_of(kv_b), sequence, kv, out, scratch_);
    }
  }

  void swiglu(const float* x, int rows, const SwigluWeights& w, float* out) override {
    const auto hidden = static_cast<std::size_t>(w.gate.in());
    const MoeRounding rounding = rounds_input_of(w.gate) ? kMoeCpuStored : kMoeF32;
    for (int r = 0; r < rows; ++r, x += hidden, out += hidden) {
      swiglu_row<float>({x, hidden}, w, rounding, {out, hidden}, {}, scratch_);
    }
  }

  void moe(const float* x, int rows, const MoeWeights& w, Routing routing, float* out) override {
    const int hidden = w.router.in();
    const std::size_t elements = static_cast<std::size_t>(rows) * static_cast<std::size_t>(hidden);
    MoeLayerInput input;
    input.x = {x, elements};
    input.rows = rows;
    input.hidden = hidden;
    input.weights = &w;
    input.rounding = rounds_input_of(w.experts.front().gate) ? kMoeCpuStored : kMoeF32;
    moe_layer<float>(input, {{out, elements}, routing.experts, routing.weights, {}, {}}, scratch_);
  }

 private:
  bool rounds_input_of(const Matrix& w) const {
    return precision_ == Precision::kStored && w.weight.dtype != DType::kF32;
  }

  const float* input_row(std::span<const float> row, const Matrix& w) {
    if (!rounds_input_of(w)) return row.data();
    MOEOPT_CHECK(scratch_.size() >= row.size());
    round_bf16<float>(row, scratch_.first(row.size()));
    return scratch_.data();
  }

  Precision precision_;
  std::span<float> scratch_;
};

}  // namespace
}  // namespace moeopt::cpu::reference

namespace moeopt::cpu {

std::unique_ptr<CpuOps> make_reference_ops(Precision precision) {
  return std::make_unique<reference::ReferenceOps>(precision);
}

}  // namespace moeopt::cpu
