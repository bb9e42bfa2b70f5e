// CpuOps that hands every call on and keeps what the router chose, for tests.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cpu/ops.h"

namespace moeopt::cpu {

// Per call of moe(): the ids and weights of its rows, in slot order.
struct RecordedRouting {
  int top_k;
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
};

class RecordingOps final : public CpuOps {
 public:
  RecordingOps(std::unique_ptr<CpuOps> ops, std::vector<RecordedRouting>& record)
      : ops_(std::move(ops)), record_(record) {}

  std::string name() const override { return ops_->name(); }
  DType kv_dtype() const override { return ops_->kv_dtype(); }
  std::uint64_t scratch_bytes(const ModelSpec& spec, int rows, int context) const override {
    return ops_->scratch_bytes(spec, rows, context);
  }
  void set_scratch(std::span<std::byte> scratch) override { ops_->set_scratch(scratch); }
  void embed(const Matrix& table, std::span<const std::int32_t> ids, float* out) override {
    ops_->embed(table, ids, out);
  }
  void rms_norm(const float* x, int rows, std::span<const float> weight, double epsilon,
                float* out) override {
    ops_->rms_norm(x, rows, weight, epsilon, out);
  }
  void add(const float* x, std::size_t n, float* to) override { ops_->add(x, n, to); }
  void linear(const float* x, int rows, const Matrix& w, std::span<const float> bias,
              float* out) override {
    ops_->linear(x, rows, w, bias, out);
  }
  void rope(float* x, int rows, int n_heads, int head_stride, int row_stride, const RopeSpec& rope,
            std::span<const std::int32_t> positions) override {
    ops_->rope(x, rows, n_heads, head_stride, row_stride, rope, positions);
  }
  void write_kv(const float* x, std::span<const SequenceRows> sequences, int plane,
                KvBlocks kv) override {
    ops_->write_kv(x, sequences, plane, kv);
  }
  void attention_gqa(const float* q, const AttentionSpec& spec,
                     std::span<const SequenceRows> sequences, KvBlocks kv, float* out) override {
    ops_->attention_gqa(q, spec, sequences, kv, out);
  }
  void attention_mla(const float* q, const AttentionSpec& spec, const Matrix& kv_b,
                     std::span<const SequenceRows> sequences, KvBlocks kv, float* out) override {
    ops_->attention_mla(q, spec, kv_b, sequences, kv, out);
  }
  void swiglu(const float* x, int rows, const SwigluWeights& w, float* out) override {
    ops_->swiglu(x, rows, w, out);
  }
  void moe(const float* x, int rows, const MoeWeights& w, Routing routing, float* out) override {
    ops_->moe(x, rows, w, routing, out);
    record_.push_back({w.spec->top_k,
                       {routing.experts.begin(), routing.experts.end()},
                       {routing.weights.begin(), routing.weights.end()}});
  }

 private:
  std::unique_ptr<CpuOps> ops_;
  std::vector<RecordedRouting>& record_;
};

}  // namespace moeopt::cpu
