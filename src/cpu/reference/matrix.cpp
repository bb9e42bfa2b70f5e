#include "cpu/reference/matrix.h"

#include "base/check.h"

namespace moeopt::cpu::reference {
namespace {

const std::byte* row_data(const Matrix& w, int row) {
  return w.weight.data + static_cast<std::int64_t>(row) * w.in() *
                             static_cast<std::int64_t>(dtype_bytes(w.weight.dtype));
}

template <typename Real>
Real fp8_row_product(const Matrix& w, int row, const Real* x, const Real* x_scales) {
  const std::byte* data = row_data(w, row);
  Real total = 0;
  for (int start = 0; start < w.in(); start += kFp8Block) {
    const int n = std::min(kFp8Block, w.in() - start);
    Real scale = block_scale(w, row, start);
    if (x_scales != nullptr) scale *= x_scales[start / kFp8Block];
    total += dot<Real, F8E4M3>(x + start, data + start, n) * scale;
  }
  return total;
}

template <typename Element, typename Real>
void widen_elements(const std::byte* data, int n, Real* out) {
  for (int i = 0; i < n; ++i) out[i] = widen(load<Element>(data, i));
}

}  // namespace

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> table{};
    for (int bits = 0; bits < 256; ++bits) {
      table[bits] = to_float(F8E4M3{static_cast<std::uint8_t>(bits)});
    }
    return table;
  }();
  return values;
}

template <typename Real>
Real row_product(const Matrix& w, int row, const Real* x, const Real* x_scales) {
  const DType dtype = w.weight.dtype;
  if (dtype == DType::kF8E4M3) return fp8_row_product(w, row, x, x_scales);
  MOEOPT_CHECK(x_scales == nullptr);
  if (dtype == DType::kBF16) return dot<Real, Bf16>(x, row_data(w, row), w.in());
  if (dtype == DType::kF16) return dot<Real, F16>(x, row_data(w, row), w.in());
  MOEOPT_CHECK(dtype == DType::kF32);
  return dot<Real, float>(x, row_data(w, row), w.in());
}

template <typename Real>
void widen_row(const Matrix& w, int row, Real* out) {
  const std::byte* data = row_data(w, row);
  switch (w.weight.dtype) {
    case DType::kF32:
      return widen_elements<float>(data, w.in(), out);
    case DType::kBF16:
      return widen_elements<Bf16>(data, w.in(), out);
    case DType::kF16:
      return widen_elements<F16>(data, w.in(), out);
    default:
      break;
  }
  MOEOPT_CHECK(w.weight.dtype == DType::kF8E4M3);
  widen_elements<F8E4M3>(data, w.in(), out);
  for (int k = 0; k < w.in(); ++k) out[k] *= block_scale(w, row, k);
}

template float row_product(const Matrix&, int, const float*, const float*);
template double row_product(const Matrix&, int, const double*, const double*);
template void widen_row(const Matrix&, int, float*);
template void widen_row(const Matrix&, int, double*);

}  // namespace moeopt::cpu::reference
