// The rounding points of the dtype contracts: values that a kernel stores in bf16 or e4m3.
// Invariant: one rounding per point, to nearest even, whatever the accumulation type.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "base/check.h"
#include "tensor/dtype.h"

namespace moeopt::cpu::reference {

inline constexpr int kFp8Block = 128;  // inputs, and weights in both directions, that share a scale

inline float round_bf16(float value) {
  return round_to_bf16(value);
}

// Straight from double: through a float rounded to odd, so that the value is rounded once.
inline double round_bf16(double value) {
  const auto nearest = static_cast<float>(value);
  if (!std::isfinite(nearest) || static_cast<double>(nearest) == value) {
    return round_to_bf16(nearest);
  }
  const bool away = std::fabs(static_cast<double>(nearest)) > std::fabs(value);
  const float truncated = away ? std::nextafter(nearest, 0.0f) : nearest;
  return round_to_bf16(std::bit_cast<float>(std::bit_cast<std::uint32_t>(truncated) | 1u));
}

template <typename Real>
void round_bf16(std::span<const Real> values, std::span<Real> out) {
  std::transform(values.begin(), values.end(), out.begin(), [](Real v) { return round_bf16(v); });
}

// Number of 1x128 blocks in a row of `n`.
inline int fp8_blocks(int n) {
  return (n + kFp8Block - 1) / kFp8Block;
}

// Activations to e4m3, one float32 scale per 128: scale = max(|x|, 1e-10) / 448 over the block and
// q = e4m3(x / scale), both in float32. out receives q, scales fp8_blocks(n) of them.
template <typename Real>
void quantise_fp8(std::span<const Real> values, std::span<Real> out, std::span<Real> scales) {
  constexpr float kLargest = 448.0f;
  for (std::size_t start = 0; start < values.size(); start += kFp8Block) {
    const std::size_t end = std::min(values.size(), start + kFp8Block);
    float largest = 1e-10f;
    for (std::size_t i = start; i < end; ++i) {
      largest = std::max(largest, std::fabs(static_cast<float>(values[i])));
    }
    const float scale = largest / kLargest;
    scales[start / kFp8Block] = scale;
    for (std::size_t i = start; i < end; ++i) {
      out[i] = to_float(to_f8e4m3(static_cast<float>(values[i]) / scale));
    }
  }
}

}  // namespace moeopt::cpu::reference
