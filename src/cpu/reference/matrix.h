// Matrices as a checkpoint stores them, read element by element, and their products with one row.
// Invariant: a sum's order depends on its length alone: eight partial sums (element i goes to sum
// i % 8), added first to last; e4m3 matrices sum each 128 inputs so, scale, then add the blocks.
#pragma once

#include <array>
#include <cstring>

#include "cpu/ops.h"
#include "cpu/reference/rounding.h"

namespace moeopt::cpu::reference {

template <typename Element>
Element load(const std::byte* data, std::int64_t index) {
  Element element;
  std::memcpy(&element, data + index * static_cast<std::int64_t>(sizeof(Element)), sizeof(Element));
  return element;
}

// All 256 values of e4m3.
const std::array<float, 256>& e4m3_values();

inline float widen(float value) {
  return value;
}
inline float widen(Bf16 value) {
  return to_float(value);
}
inline float widen(F16 value) {
  return to_float(value);
}
inline float widen(F8E4M3 value) {
  return e4m3_values()[value.bits];
}

// sum of x[i] * w[i], w read from memory that may be unaligned
template <typename Real, typename Element>
Real dot(const Real* x, const std::byte* w, int n) {
  constexpr int kLanes = 8;
  std::array<Real, kLanes> sums{};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      sums[lane] += x[i + lane] * static_cast<Real>(widen(load<Element>(w, i + lane)));
    }
  }
  for (; i < n; ++i) sums[i % kLanes] += x[i] * static_cast<Real>(widen(load<Element>(w, i)));
  Real total = 0;
  for (const Real sum : sums) total += sum;
  return total;
}

// Scale of the 128x128 block that holds (row, column).
inline float block_scale(const Matrix& w, int row, int column) {
  const std::int64_t index =
      static_cast<std::int64_t>(row / kFp8Block) * fp8_blocks(w.in()) + column / kFp8Block;
  return w.scale_inv.dtype == DType::kBF16 ? to_float(load<Bf16>(w.scale_inv.data, index))
                                           : load<float>(w.scale_inv.data, index);
}

// W[row] . x. `x_scales` belongs to an x that quantise_fp8 made, and asks for an e4m3 W.
template <typename Real>
Real row_product(const Matrix& w, int row, const Real* x, const Real* x_scales = nullptr);

// out[r] = W x[r], for one row.
template <typename Real>
void matrix_vector(const Matrix& w, const Real* x, const Real* x_scales, Real* out) {
  for (int row = 0; row < w.out(); ++row) out[row] = row_product(w, row, x, x_scales);
}

// out[k] = W[row, k]
template <typename Real>
void widen_row(const Matrix& w, int row, Real* out);

}  // namespace moeopt::cpu::reference
