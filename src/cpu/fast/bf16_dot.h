// Dot products of bf16 pairs (vdpbf16ps) and what feeds them. Included only by
// kernels_avx512bf16.cpp and kernels_amx.cpp, see lanes.h.
#pragma once

#include "cpu/fast/dot_product.h"

namespace moeopt::cpu::fast {
namespace {

struct E4m3ToBf16Table {
  alignas(64) std::uint16_t bits[128];
};

constexpr E4m3ToBf16Table make_e4m3_to_bf16_table() {
  E4m3ToBf16Table table{};
  for (int i = 0; i < 128; ++i) {
    const auto wide = __builtin_bit_cast(std::uint32_t, kE4m3.value[i]);
    table.bits[i] = static_cast<std::uint16_t>(wide >> 16);
  }
  return table;
}
inline constexpr E4m3ToBf16Table kE4m3ToBf16 = make_e4m3_to_bf16_table();

// 32 values of e4m3, exactly.
inline __m512i widen_e4m3(__m256i bytes) {
  const __m512i* table = reinterpret_cast<const __m512i*>(kE4m3ToBf16.bits);
  const __m512i index = _mm512_cvtepu8_epi16(bytes);
  const __m512i low = _mm512_permutex2var_epi16(table[0], index, table[1]);
  const __m512i high = _mm512_permutex2var_epi16(table[2], index, table[3]);
  const __mmask32 upper = _mm512_test_epi16_mask(index, _mm512_set1_epi16(0x40));
  const __m512i magnitude = _mm512_mask_blend_epi16(upper, low, high);
  const __m512i sign = _mm512_and_si512(_mm512_slli_epi16(index, 8), _mm512_set1_epi16(-0x8000));
  return _mm512_or_si512(magnitude, sign);
}

template <WeightKind kKind>
struct Bf16Dot {
  static constexpr int kStep = 32;
  static constexpr int kWeightBytes = kKind == WeightKind::kE4m3 ? 1 : 2;
  static constexpr int kInputBytes = 2;
  static constexpr bool kScaled = kKind == WeightKind::kE4m3;
  using Weight = __m512i;
  using Input = __m512i;

  static Weight load_weight(const unsigned char* p) {
    if constexpr (kKind == WeightKind::kE4m3) {
      return widen_e4m3(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    } else {
      return _mm512_loadu_si512(p);
    }
  }
  static Input load_input(const unsigned char* p) { return _mm512_loadu_si512(p); }
  static F accumulate(F sum, Weight w, Input x) {
    return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
  }
};

// 32 consecutive inputs as bf16, the first in the lowest half.
inline __m512i load_as_bf16(const float* p) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(p + 16), _mm512_loadu_ps(p));
}
// The same of n < 32 inputs, zero beyond them.
inline __m512i load_some_as_bf16(const float* p, int n) {
  const __mmask32 mask = (1u << n) - 1u;
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), p + 16);
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

}  // namespace
}  // namespace moeopt::cpu::fast
