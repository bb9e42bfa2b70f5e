// The widest float vector that the including file is compiled for, and what the kernels do with it.
// Included only by kernels_*.cpp: everything is in an unnamed namespace, and nothing from the
// standard library is instantiated, so that no code for one instruction set can be merged by the
// linker into code that runs on every processor.
// Invariant: a lane's result depends on that lane's inputs alone; reductions have one fixed order.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns about its own _mm512_undefined_epi32 (its bug 105593) in whoever includes it.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace moeopt::cpu::fast {
namespace {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

using F = float __attribute__((vector_size(4 * kLanes), may_alias));
using I = std::int32_t __attribute__((vector_size(4 * kLanes), may_alias));
// The same without an alignment, for loads and stores anywhere.
using UnalignedF = float __attribute__((vector_size(4 * kLanes), aligned(1), may_alias));
using UnalignedHalf = std::uint16_t __attribute__((vector_size(2 * kLanes), aligned(1), may_alias));

// Where the i-th of things of `size` bytes or elements begins.
inline std::size_t skip(int i, std::size_t size) {
  return static_cast<std::size_t>(i) * size;
}

inline F load(const void* p) {
  return *static_cast<const UnalignedF*>(p);
}
inline void store(float* p, F v) {
  *reinterpret_cast<UnalignedF*>(p) = v;
}
// Not F{} + v: the compiler may not drop an addition that turns -0 into 0.
inline F broadcast(float v) {
#if defined(__AVX512F__)
  return (F)_mm512_set1_ps(v);
#elif defined(__AVX2__)
  return (F)_mm256_set1_ps(v);
#else
  return F{v, v, v, v};
#endif
}
inline I broadcast(std::int32_t v) {
  return I{} + v;
}

inline F load_some(const void* p, int n) {
  alignas(64) float buffer[kLanes] = {};
  __builtin_memcpy(buffer, p, sizeof(float) * static_cast<std::size_t>(n));
  return load(buffer);
}
inline void store_some(float* p, F v, int n) {
  alignas(64) float buffer[kLanes];
  store(buffer, v);
  __builtin_memcpy(p, buffer, sizeof(float) * static_cast<std::size_t>(n));
}

inline F fma(F a, F b, F c) {
#if defined(__AVX512F__)
  return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// bf16 at any 2-byte boundary, widened.
inline F load_bf16(const unsigned char* p) {
#if defined(__AVX512F__)
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
  return (F)_mm512_slli_epi32(wide, 16);
#elif defined(__AVX2__)
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
  return (F)_mm256_slli_epi32(wide, 16);
#else
  const UnalignedHalf half = *reinterpret_cast<const UnalignedHalf*>(p);
  return (F)(__builtin_convertvector(half, I) << 16);
#endif
}

// A float's sixteen upper bits, rounded to nearest even; NaN stays NaN.
inline I bf16_bits(F v) {
  const I bits = (I)v;
  const I rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const I quiet = (bits >> 16) | 0x40;
  const I is_nan = (I)(v != v);
  return ((rounded & ~is_nan) | (quiet & is_nan)) & 0xffff;
}
inline F round_bf16(F v) {
  return (F)(bf16_bits(v) << 16);
}

inline F max(F a, F b) {  // b when either is NaN
#if defined(__AVX512F__)
  return (F)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (F)_mm256_max_ps((__m256)a, (__m256)b);
#else
  const I greater = (I)(a > b);
  return (F)(((I)a & greater) | ((I)b & ~greater));
#endif
}
inline F min(F a, F b) {  // b when either is NaN
  const I less = (I)(a < b);
  return (F)(((I)a & less) | ((I)b & ~less));
}

// Halves are added until one lane is left.
inline float sum(F v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
#if defined(__AVX2__)
  const __m128 four =
      _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
#else
  const F four = v;
#endif
  return (four[0] + four[2]) + (four[1] + four[3]);
#endif
}

// e^x within 2 units in the last place; 0 below -87, NaN for NaN. Range reduction by ln 2 in two
// parts and the Taylor polynomial of degree 7 on [-ln2/2, ln2/2].
inline F exp(F x) {
  const F low = broadcast(-87.0f);
  const F clamped = min(broadcast(88.0f), max(low, x));
  const F magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const F shifted = fma(clamped, broadcast(1.44269504f), magic);
  const F n = shifted - magic;
  F r = fma(n, broadcast(-0.693359375f), clamped);
  r = fma(n, broadcast(2.12194440e-4f), r);
  F p = broadcast(1.0f / 5040);
  p = fma(p, r, broadcast(1.0f / 720));
  p = fma(p, r, broadcast(1.0f / 120));
  p = fma(p, r, broadcast(1.0f / 24));
  p = fma(p, r, broadcast(1.0f / 6));
  p = fma(p, r, broadcast(0.5f));
  p = fma(p, r, broadcast(1.0f));
  p = fma(p, r, broadcast(1.0f));
  const I power = ((I)shifted - (I)magic + 127) << 23;
  const F result = p * (F)power;
  return (F)((I)result & ~(I)(x < low));
}

}  // namespace
}  // namespace moeopt::cpu::fast
