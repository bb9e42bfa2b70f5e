// CpuOps by tiles: the table of kernels for one instruction set, a team of threads, and scratch
// memory that the caller planned.
// Invariant: results do not depend on the number of threads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "base/strings.h"
#include "cpu/fast/attention.h"
#include "cpu/fast/linear.h"
#include "cpu/fast/moe.h"
#include "cpu/ops.h"
#include "cpu/reference/matrix.h"

namespace moeopt::cpu {
namespace fast {
namespace {

// Elements below which waking another thread costs more than the work.
constexpr int kSerialElements = 1 << 14;

const Kernels& kernels_of(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return portable_kernels();
#if defined(__x86_64__)
    case Isa::kAvx2:
      return avx2_kernels();
    case Isa::kAvx512:
      return avx512_kernels();
    case Isa::kAvx512Bf16:
      return avx512bf16_kernels();
    case Isa::kAmx:
      return amx_kernels();
#else
    default:
      break;
#endif
  }
  return portable_kernels();
}

// Rotates pairs (x[2i], x[2i + 1]).
void rotate_neighbours(float* x, const float* cosines, const float* sines, int pairs) {
  for (int i = 0; i < pairs; ++i, x += 2) {
    const float a = x[0];
    const float b = x[1];
    x[0] = a * cosines[i] - b * sines[i];
    x[1] = b * cosines[i] + a * sines[i];
  }
}

// Cosines and sines of a step's positions: the same in every layer, so made once. Lies at the end
// of the scratch memory, where no op carves.
class RopeTable {
 public:
  static std::size_t bytes(int rows, int dim) {
    const auto n = static_cast<std::size_t>(rows);
    return n * static_cast<std::size_t>(dim) * sizeof(float) + n * sizeof(std::int32_t) + 128;
  }

  void set_memory(std::span<std::byte> scratch) {
    scratch_ = scratch;
    rope_ = nullptr;
  }

  void prepare(const Team& team, const RopeSpec& rope, std::span<const std::int32_t> positions) {
    if (holds(rope, positions)) return;
    rope_ = &rope;
    n_pairs_ = rope.dim() / 2;
    n_rows_ = static_cast<int>(positions.size());
    const std::size_t size = bytes(n_rows_, rope.dim());
    MOEOPT_CHECK(size <= scratch_.size());
    Carver carver(scratch_.subspan((scratch_.size() - size) / 64 * 64));
    angles_ = carver.take<float>(positions.size() * static_cast<std::size_t>(rope.dim()));
    positions_ = carver.take<std::int32_t>(positions.size());
    std::ranges::copy(positions, positions_);
    team.pool.for_each(n_rows_, [&](int r, int /*member*/) {
      float* row = cosines(r);
      for (int i = 0; i < n_pairs_; ++i) {
        const double angle = positions_[r] * rope.inverse_frequencies[static_cast<std::size_t>(i)];
        row[i] = static_cast<float>(std::cos(angle) * rope.magnitude);
        row[n_pairs_ + i] = static_cast<float>(std::sin(angle) * rope.magnitude);
      }
    });
  }

  float* cosines(int row) const {
    return angles_ + static_cast<std::size_t>(row) * 2 * static_cast<std::size_t>(n_pairs_);
  }
  const float* sines(int row) const { return cosines(row) + n_pairs_; }

 private:
  bool holds(const RopeSpec& rope, std::span<const std::int32_t> positions) const {
    return rope_ == &rope && positions.size() == static_cast<std::size_t>(n_rows_) &&
           std::ranges::equal(positions, std::span(positions_, positions.size()));
  }

  std::span<std::byte> scratch_;
  const RopeSpec* rope_ = nullptr;
  int n_pairs_ = 0;
  int n_rows_ = 0;
  float* angles_ = nullptr;
  std::int32_t* positions_ = nullptr;
};

class FastOps final : public CpuOps {
 public:
  FastOps(int threads, Isa isa) : pool_(threads), isa_(isa), team_{pool_, kernels_of(isa)} {}

  std::string name() const override { return fmt::format("fast ({})", isa_name(isa_)); }
  DType kv_dtype() const override { return DType::kBF16; }

  std::uint64_t scratch_bytes(const ModelSpec& spec, int max_rows,
                              int /*max_context*/) const override {
    std::size_t bytes = linear_scratch_bytes(team_, max_rows, spec.hidden);
    for (const LayerSpec& layer : spec.layers) {
      const AttentionSpec& a = layer.attention;
      const int widest = std::max({a.n_heads * a.v_head_dim, a.q_lora_rank, a.kv_lora_rank});
      bytes = std::max(bytes, linear_scratch_bytes(team_, max_rows, widest));
      bytes = std::max(bytes, attention_scratch_bytes(team_, a, max_rows));
      bytes = std::max(
          bytes,
          layer.moe ? moe_scratch_bytes(team_, *layer.moe, spec.hidden, max_rows)
                    : swiglu_scratch_bytes(team_, spec.hidden, layer.dense_intermediate, max_rows));
    }
    return (bytes + RopeTable::bytes(max_rows, spec.rope.dim()) + 127) / 64 * 64;
  }

  void set_scratch(std::span<std::byte> scratch) override {
    scratch_ = scratch;
    rope_table_.set_memory(scratch);
  }

  void embed(const Matrix& table, std::span<const std::int32_t> ids, float* out) override {
    pool_.for_each(static_cast<int>(ids.size()), [&](int i, int /*member*/) {
      reference::widen_row(
          table, ids[static_cast<std::size_t>(i)],
          out + static_cast<std::size_t>(i) * static_cast<std::size_t>(table.in()));
    });
  }

  void rms_norm(const float* x, int rows, std::span<const float> weight, double epsilon,
                float* out) override {
    const int width = static_cast<int>(weight.size());
    for_rows(rows, width, [&](int r) {
      const std::size_t at = static_cast<std::size_t>(r) * weight.size();
      team_.kernels.rms_norm(x + at, weight.data(), width, epsilon, out + at);
    });
  }

  void add(const float* x, std::size_t n, float* to) override {
    constexpr std::size_t kPart = kSerialElements;
    pool_.for_each(static_cast<int>((n + kPart - 1) / kPart), [&](int part, int /*member*/) {
      const std::size_t first = static_cast<std::size_t>(part) * kPart;
      team_.kernels.add_scaled(1.0f, x + first, static_cast<int>(std::min(kPart, n - first)),
                               to + first);
    });
  }

  void linear(const float* x, int rows, const Matrix& w, std::span<const float> bias,
              float* out) override {
    fast::linear(team_, x, rows, w, rounds_inputs(w), bias, out, Carver(scratch_));
  }

  void rope(float* x, int rows, int n_heads, int head_stride, int row_stride, const RopeSpec& rope,
            std::span<const std::int32_t> positions) override {
    if (rope.dim() == 0) return;
    rope_table_.prepare(team_, rope, positions.first(static_cast<std::size_t>(rows)));
    const int pairs = rope.dim() / 2;
    for_rows(rows, n_heads * rope.dim(), [&](int r) {
      float* head = x + static_cast<std::ptrdiff_t>(r) * row_stride;
      const float* cosines = rope_table_.cosines(r);
      const float* sines = rope_table_.sines(r);
      for (int h = 0; h < n_heads; ++h, head += head_stride) {
        if (!rope.interleaved) {
          team_.kernels.rotate(head, head + pairs, cosines, sines, pairs);
          continue;
        }
        rotate_neighbours(head, cosines, sines, pairs);
      }
    });
  }

  void write_kv(const float* x, std::span<const SequenceRows> sequences, int plane,
                KvBlocks kv) override {
    const KvLayout& layout = *kv.layout;
    MOEOPT_CHECK(layout.dtype == DType::kBF16);
    const int width = layout.planes[static_cast<std::size_t>(plane)].elements;
    const std::size_t entry_bytes = static_cast<std::size_t>(width) * sizeof(Bf16);
    for (const SequenceRows& sequence : sequences) {
      for_rows(sequence.n_rows, width, [&](int r) {
        const int position = sequence.first_position + r;
        const int block =
            sequence.block_table[static_cast<std::size_t>(position / layout.block_tokens)];
        std::byte* to = kv.data + static_cast<std::size_t>(block) * layout.block_bytes() +
                        layout.plane_offset_bytes(plane) +
                        static_cast<std::size_t>(position % layout.block_tokens) * entry_bytes;
        const auto row = static_cast<std::size_t>(sequence.first_row) + static_cast<std::size_t>(r);
        team_.kernels.to_bf16(x + row * static_cast<std::size_t>(width), width,
                              reinterpret_cast<std::uint16_t*>(to));
      });
    }
  }

  void attention_gqa(const float* q, const AttentionSpec& spec,
                     std::span<const SequenceRows> sequences, KvBlocks kv, float* out) override {
    fast::attention_gqa(team_, q, spec, sequences, kv, out, scratch_);
  }

  void attention_mla(const float* q, const AttentionSpec& spec, const Matrix& kv_b,
                     std::span<const SequenceRows> sequences, KvBlocks kv, float* out) override {
    fast::attention_mla(team_, q, spec, kv_b, sequences, kv, out, scratch_);
  }

  void swiglu(const float* x, int rows, const SwigluWeights& w, float* out) override {
    fast::swiglu(team_, x, rows, w, out, scratch_);
  }

  void moe(const float* x, int rows, const MoeWeights& w, Routing routing, float* out) override {
    fast::moe(team_, x, rows, w, routing, out, scratch_);
  }

 private:
  // Calls work(row), on all threads when there is enough of it.
  template <typename Work>
  void for_rows(int rows, int row_elements, const Work& work) {
    if (static_cast<std::int64_t>(rows) * row_elements < kSerialElements) {
      for (int r = 0; r < rows; ++r) work(r);
      return;
    }
    const int grain = std::max(1, kSerialElements / 4 / std::max(1, row_elements));
    pool_.for_each((rows + grain - 1) / grain, [&](int part, int /*member*/) {
      const int end = std::min(rows, (part + 1) * grain);
      for (int r = part * grain; r < end; ++r) work(r);
    });
  }

  ThreadPool pool_;
  Isa isa_;
  Team team_;
  std::span<std::byte> scratch_;
  RopeTable rope_table_;
};

Isa choose_isa(const std::string& name) {
  if (name.empty() || name == "auto") return cpu_features().best();
  const std::optional<Isa> isa = isa_from_name(name);
  if (isa && cpu_features().has(*isa)) return *isa;
  std::string known;
  for (const Isa supported : supported_isas()) {
    if (!known.empty()) known += ", ";
    known += isa_name(supported);
  }
  throw Error(ErrorCode::kUsage,
              isa ? fmt::format("this processor has no {}", name)
                  : fmt::format("no instruction set is called '{}'", printable(name)),
              fmt::format("this machine runs: {}", known));
}

}  // namespace
}  // namespace fast

std::unique_ptr<CpuOps> make_fast_ops(int threads, const std::string& isa) {
  return std::make_unique<fast::FastOps>(threads, fast::choose_isa(isa));
}

}  // namespace moeopt::cpu
