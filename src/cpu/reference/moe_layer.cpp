#include "cpu/reference/moe_layer.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "cpu/reference/matrix.h"
#include "cpu/reference/router.h"

namespace moeopt::cpu::reference {
namespace {

// Hands out consecutive pieces of a scratch span.
template <typename Real>
class Scratch {
 public:
  explicit Scratch(std::span<Real> memory) : rest_(memory) {}
  std::span<Real> take(std::size_t n) {
    MOEOPT_CHECK(rest_.size() >= n);
    const std::span<Real> piece = rest_.first(n);
    rest_ = rest_.subspan(n);
    return piece;
  }
  std::span<Real> rest() const { return rest_; }

 private:
  std::span<Real> rest_;
};

// A row as a matrix product reads it.
template <typename Real>
struct RoundedRow {
  std::span<Real> values;
  std::span<Real> scales;  // kFp8 alone

  const Real* scales_or_null() const { return scales.empty() ? nullptr : scales.data(); }
  Real dequantised(std::size_t i) const {
    return scales.empty() ? values[i] : values[i] * scales[i / kFp8Block];
  }
};

std::size_t rounded_row_elements(int n) {
  return static_cast<std::size_t>(n) + static_cast<std::size_t>(fp8_blocks(n));
}

template <typename Real>
RoundedRow<Real> round_row(std::span<const Real> row, InputRounding rounding, std::span<Real> out) {
  const std::size_t n = row.size();
  RoundedRow<Real> rounded{out.first(n), {}};
  switch (rounding) {
    case InputRounding::kNone:
      std::ranges::copy(row, rounded.values.begin());
      break;
    case InputRounding::kBf16:
      round_bf16<Real>(row, rounded.values);
      break;
    case InputRounding::kFp8:
      rounded.scales = out.subspan(n, static_cast<std::size_t>(fp8_blocks(static_cast<int>(n))));
      quantise_fp8<Real>(row, rounded.values, rounded.scales);
      break;
  }
  return rounded;
}

template <typename Real>
Real silu(Real g) {
  return g / (1 + std::exp(-g));
}

template <typename Real>
void swiglu(const RoundedRow<Real>& x, const SwigluWeights& w, const MoeRounding& rounding,
            std::span<Real> y, std::span<Real> h_out, Scratch<Real> scratch) {
  const int intermediate = w.gate.out();
  const std::span<Real> h = scratch.take(static_cast<std::size_t>(intermediate));
  for (int i = 0; i < intermediate; ++i) {
    const Real g = row_product(w.gate, i, x.values.data(), x.scales_or_null());
    const Real u = row_product(w.up, i, x.values.data(), x.scales_or_null());
    h[i] = silu(g) * u;
  }
  const RoundedRow<Real> h_rounded =
      round_row<Real>(h, rounding.h, scratch.take(rounded_row_elements(intermediate)));
  for (std::size_t i = 0; i < h_out.size(); ++i) h_out[i] = h_rounded.dequantised(i);

  matrix_vector(w.down, h_rounded.values.data(), h_rounded.scales_or_null(), y.data());
  if (rounding.y_bf16) round_bf16<Real>(y, y);
}

// Row r of a [rows, width] result, or nothing when nobody asked for it.
template <typename Real>
std::span<Real> row_of(std::span<Real> all, std::size_t r, std::size_t width) {
  return all.empty() ? all : all.subspan(r * width, width);
}

template <typename Real>
class MoeRow {
 public:
  MoeRow(const MoeLayerInput& input, std::span<Real> scratch)
      : input_(input),
        weights_(*input.weights),
        spec_(*input.weights->spec),
        hidden_(static_cast<std::size_t>(input.hidden)),
        scratch_(scratch),
        x_(scratch_.take(hidden_)),
        x_router_(scratch_.take(hidden_)),
        x_rounded_(scratch_.take(rounded_row_elements(input.hidden))),
        sum_(scratch_.take(hidden_)),
        y_(scratch_.take(hidden_)) {}

  void run(std::size_t r, const MoeLayerOutput<Real>& output) {
    const auto top_k = static_cast<std::size_t>(spec_.top_k);
    const auto x = input_.x.subspan(r * hidden_, hidden_);
    std::ranges::copy(x, x_.begin());
    if (input_.rounding.x == InputRounding::kNone) {
      std::ranges::copy(x_, x_router_.begin());
    } else {
      round_bf16<Real>(x_, x_router_);
    }
    const RoundedRow<Real> rounded = round_row<Real>(x_, input_.rounding.x, x_rounded_);

    const auto ids = output.ids.subspan(r * top_k, top_k);
    const auto slot_weights = output.weights.subspan(r * top_k, top_k);
    choose(r, ids, slot_weights);

    std::ranges::fill(sum_, Real{0});
    for (std::size_t slot = 0; slot < top_k; ++slot) {
      const std::size_t place = r * top_k + slot;
      add_expert(rounded, ids[slot], slot_weights[slot],
                 row_of(output.h, place, static_cast<std::size_t>(spec_.intermediate)),
                 row_of(output.y, place, hidden_));
    }
    if (spec_.shared_intermediate > 0) add_shared(rounded);

    const auto out = output.output.subspan(r * hidden_, hidden_);
    if (input_.rounding.output_bf16) round_bf16<Real>(sum_, sum_);
    std::ranges::copy(sum_, out.begin());
  }

 private:
  void choose(std::size_t r, std::span<std::int32_t> ids, std::span<Real> slot_weights) {
    const std::size_t top_k = ids.size();
    if (!input_.given_ids.empty()) {
      std::ranges::copy(input_.given_ids.subspan(r * top_k, top_k), ids.begin());
      std::ranges::copy(input_.given_weights.subspan(r * top_k, top_k), slot_weights.begin());
      return;
    }
    Scratch<Real> scratch = scratch_;
    const std::span<Real> logits = scratch.take(static_cast<std::size_t>(spec_.n_experts));
    matrix_vector<Real>(weights_.router, x_router_.data(), nullptr, logits.data());
    route<Real>(logits, spec_, weights_.router_bias, scratch.rest(), ids, slot_weights);
  }

  void add_expert(const RoundedRow<Real>& x, std::int32_t id, Real weight, std::span<Real> h_out,
                  std::span<Real> y_out) {
    MOEOPT_CHECK(id >= 0);
    MOEOPT_CHECK(id < spec_.n_experts);
    const int here = input_.expert_map.empty() ? id : input_.expert_map[id];
    if (here < 0) {
      std::ranges::fill(h_out, Real{0});
      std::ranges::fill(y_out, Real{0});
      return;
    }
    swiglu<Real>(x, weights_.experts[here], input_.rounding, y_, h_out, scratch_);
    if (!y_out.empty()) std::ranges::copy(y_, y_out.begin());
    for (std::size_t j = 0; j < hidden_; ++j) sum_[j] += weight * y_[j];
  }

  void add_shared(const RoundedRow<Real>& x) {
    swiglu<Real>(x, weights_.shared, input_.rounding, y_, {}, scratch_);
    Real weight = 1;
    if (spec_.shared_expert_gate) {
      const Real gate = row_product(weights_.shared_expert_gate, 0, x_router_.data());
      weight = 1 / (1 + std::exp(-gate));
    }
    for (std::size_t j = 0; j < hidden_; ++j) sum_[j] += weight * y_[j];
  }

  const MoeLayerInput& input_;
  const MoeWeights& weights_;
  const MoeSpec& spec_;
  std::size_t hidden_;
  Scratch<Real> scratch_;
  std::span<Real> x_, x_router_, x_rounded_, sum_, y_;
};

}  // namespace

std::size_t swiglu_scratch(int hidden, int intermediate) {
  return rounded_row_elements(hidden) + static_cast<std::size_t>(intermediate) +
         rounded_row_elements(intermediate);
}

std::size_t moe_layer_scratch(const MoeSpec& spec, int hidden) {
  const std::size_t routing = static_cast<std::size_t>(spec.n_experts) + route_scratch(spec);
  const std::size_t expert =
      swiglu_scratch(hidden, std::max(spec.intermediate, spec.shared_intermediate));
  return 4 * static_cast<std::size_t>(hidden) + rounded_row_elements(hidden) +
         std::max(routing, expert);
}

template <typename Real>
void moe_layer(const MoeLayerInput& input, const MoeLayerOutput<Real>& output,
               std::span<Real> scratch) {
  MOEOPT_CHECK(input.x.size() == static_cast<std::size_t>(input.rows) * input.hidden);
  MOEOPT_CHECK(output.output.size() == input.x.size());
  MoeRow<Real> row(input, scratch);
  for (int r = 0; r < input.rows; ++r) row.run(static_cast<std::size_t>(r), output);
}

template <typename Real>
void swiglu_row(std::span<const Real> x, const SwigluWeights& w, const MoeRounding& rounding,
                std::span<Real> out, std::span<Real> h_out, std::span<Real> scratch_memory) {
  Scratch<Real> scratch(scratch_memory);
  const RoundedRow<Real> rounded =
      round_row<Real>(x, rounding.x, scratch.take(rounded_row_elements(w.gate.in())));
  swiglu<Real>(rounded, w, rounding, out, h_out, scratch);
}

template void moe_layer(const MoeLayerInput&, const MoeLayerOutput<float>&, std::span<float>);
template void moe_layer(const MoeLayerInput&, const MoeLayerOutput<double>&, std::span<double>);
template void swiglu_row(std::span<const float>, const SwigluWeights&, const MoeRounding&,
                         std::span<float>, std::span<float>, std::span<float>);
template void swiglu_row(std::span<const double>, const SwigluWeights&, const MoeRounding&,
                         std::span<double>, std::span<double>, std::span<double>);

}  // namespace moeopt::cpu::reference
