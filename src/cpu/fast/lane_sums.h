// Blocks of sums out of their lanes, and the hint of what is read next, as the products of
// dot_product.h and wide_product.h share them. Included only by kernels_*.cpp, see lanes.h.
// Invariant: an element of store_sums() has the bits of sum() of its vector.
#pragma once

#include "cpu/fast/kernels.h"
#include "cpu/fast/lanes.h"

namespace moeopt::cpu::fast {
namespace {

#if defined(__AVX512F__)
inline __m512 add_shuffled_quarters(__m512 a, __m512 b) {  // [a, a, b, b], of 128 bits each
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}
inline __m512 add_shuffled_lanes(__m512 a, __m512 b) {  // the same within each 128 bits
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
}

// sum() of the four rows of each of kFeatures <= 4 features at once: 128 bits a row, a feature in
// each lane. Halves are added as there, with the halves of several vectors in one register.
template <int kFeatures>
inline __m512 sums_of(const F (*totals)[4]) {
  __m512 rows[4];
  for (int f = 0; f < kFeatures; ++f) {
    const __m512 low = add_shuffled_quarters((__m512)totals[f][0], (__m512)totals[f][1]);
    const __m512 high = add_shuffled_quarters((__m512)totals[f][2], (__m512)totals[f][3]);
    rows[f] =
        _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
  }
  const __m512 low = add_shuffled_lanes(rows[0], rows[kFeatures > 1 ? 1 : 0]);
  __m512 high = low;
  if constexpr (kFeatures > 2) high = add_shuffled_lanes(rows[2], rows[kFeatures > 3 ? 3 : 2]);
  return _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x88), _mm512_shuffle_ps(low, high, 0xdd));
}

// The first kFeatures lanes of each 128 bits. Not a masked store: the compiler joins that with the
// extraction into an instruction which faults on what the mask leaves out.
template <int kFeatures>
inline void store_rows(__m512 rows, float* out, std::size_t out_stride) {
  const __m128 four[4] = {_mm512_castps512_ps128(rows), _mm512_extractf32x4_ps(rows, 1),
                          _mm512_extractf32x4_ps(rows, 2), _mm512_extractf32x4_ps(rows, 3)};
  for (int r = 0; r < 4; ++r) {
    __builtin_memcpy(out + skip(r, out_stride), &four[r], kFeatures * sizeof(float));
  }
}
#elif defined(__AVX2__)
inline __m256 add_shuffled_lanes(__m256 a, __m256 b) {  // [a, a, b, b] within each 128 bits
  return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
}

// sum() of two rows of each of kFeatures <= 4 features at once: 128 bits a row, a feature in each
// lane. `totals[f]` are the row's and, behind it, the next row's.
template <int kFeatures, int kRows>
inline __m256 sums_of(const F (*totals)[kRows], int row) {
  __m256 rows[4];
#pragma GCC unroll 4
  for (int f = 0; f < kFeatures; ++f) {
    const auto first = (__m256)totals[f][row], second = (__m256)totals[f][row + 1];
    rows[f] = _mm256_add_ps(_mm256_permute2f128_ps(first, second, 0x20),
                            _mm256_permute2f128_ps(first, second, 0x31));
  }
  const __m256 low = add_shuffled_lanes(rows[0], rows[kFeatures > 1 ? 1 : 0]);
  __m256 high = low;
  if constexpr (kFeatures > 2) high = add_shuffled_lanes(rows[2], rows[kFeatures > 3 ? 3 : 2]);
  return _mm256_add_ps(_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xdd));
}
#endif

// out[r][f] = sum(totals[f][r])
template <int kFeatures, int kRows>
inline void store_sums(const F (&totals)[kFeatures][kRows], float* out, std::size_t out_stride) {
#if defined(__AVX512F__)
  if constexpr (kRows == 4) {
    constexpr int kWhole = kFeatures / 4 * 4;
    constexpr int kRest = kFeatures - kWhole;
    for (int f = 0; f < kWhole; f += 4) {
      store_rows<4>(sums_of<4>(totals + f), out + f, out_stride);
    }
    if constexpr (kRest > 0) {
      store_rows<kRest>(sums_of<kRest>(totals + kWhole), out + kWhole, out_stride);
    }
    return;
  }
#elif defined(__AVX2__)
  if constexpr (kFeatures <= 4 && kRows % 2 == 0) {
#pragma GCC unroll 2
    for (int r = 0; r < kRows; r += 2) {
      const __m256 rows = sums_of<kFeatures>(totals, r);
      const __m128 two[2] = {_mm256_castps256_ps128(rows), _mm256_extractf128_ps(rows, 1)};
      for (int i = 0; i < 2; ++i) {
        __builtin_memcpy(out + skip(r + i, out_stride), &two[i], kFeatures * sizeof(float));
      }
    }
    return;
  }
#endif
  for (int f = 0; f < kFeatures; ++f) {
    for (int r = 0; r < kRows; ++r) out[skip(r, out_stride) + skip(f, 1)] = sum(totals[f][r]);
  }
}

inline constexpr int kPrefetchInputs = 32;  // between two calls of ask() in an inner loop

// Asks for what will be read next, a few cache lines at a time, evenly over `asks` calls.
class SpreadPrefetch {
 public:
  SpreadPrefetch(Upcoming next, int asks)
      : at_(next.data),
        left_(static_cast<int>(next.bytes / 64)),
        lines_(asks > 0 ? (left_ + asks - 1) / asks : 0) {}
  void ask() {
    for (int i = 0; i < lines_ && left_ > 0; ++i, --left_, at_ += 64) {
      __builtin_prefetch(at_, 0, 2);
    }
  }

 private:
  const unsigned char* at_;
  int left_;
  int lines_;
};

}  // namespace
}  // namespace moeopt::cpu::fast
