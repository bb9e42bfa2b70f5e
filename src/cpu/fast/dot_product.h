// Matrix products as dot products along K: for every instruction set but AMX, and there for the
// weights that its tiles cannot read. Included only by kernels_*.cpp, see lanes.h.
// Invariant: an output is the sum of its lanes' partial sums over K, each in ascending order (over
// each kScaleBlock inputs apart, then scaled and added, for e4m3), whatever block it is computed
// in.
#pragma once

#include "cpu/fast/kernels.h"
#include "cpu/fast/lane_sums.h"

namespace moeopt::cpu::fast {
namespace {

struct E4m3Table {
  alignas(64) float value[256];
};

// OCP 8-bit floating point, E4M3: bias 7, no infinity, 0x7f and 0xff are NaN.
constexpr E4m3Table make_e4m3_table() {
  E4m3Table table{};
  for (int bits = 0; bits < 256; ++bits) {
    const int exponent = (bits >> 3) & 15;
    const int mantissa = bits & 7;
    float v = static_cast<float>(exponent == 0 ? mantissa : 8 + mantissa) / 8.0f;
    for (int e = exponent == 0 ? 1 : exponent; e < 7; ++e) v /= 2.0f;
    for (int e = 7; e < exponent; ++e) v *= 2.0f;
    if ((bits & 0x7f) == 0x7f) v = __builtin_nanf("");
    table.value[bits] = (bits & 0x80) != 0 ? -v : v;
  }
  return table;
}
inline constexpr E4m3Table kE4m3 = make_e4m3_table();

inline float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  float value;
  if (magnitude < 0x400u) {
    value = static_cast<float>(magnitude) * 0x1p-24f;
  } else {
    const std::uint32_t widened =
        (magnitude << 13) + (magnitude >= 0x7c00u ? 0x70000000u : 0x38000000u);
    __builtin_memcpy(&value, &widened, 4);
  }
  std::uint32_t out;
  __builtin_memcpy(&out, &value, 4);
  out |= sign;
  __builtin_memcpy(&value, &out, 4);
  return value;
}

inline F load_f16(const unsigned char* p) {
#if defined(__AVX512F__)
  return (F)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__AVX2__)
  return (F)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
  F out{};
  for (int i = 0; i < kLanes; ++i) {
    std::uint16_t bits;
    __builtin_memcpy(&bits, p + skip(i, 2), 2);
    out[i] = half_to_float(bits);
  }
  return out;
#endif
}

inline F load_e4m3(const unsigned char* p) {
#if defined(__AVX512F__)
  const __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
  return (F)_mm512_i32gather_ps(index, kE4m3.value, 4);
#elif defined(__AVX2__)
  const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
  return (F)_mm256_i32gather_ps(kE4m3.value, index, 4);
#else
  F out{};
  for (int i = 0; i < kLanes; ++i) out[i] = kE4m3.value[p[i]];
  return out;
#endif
}

// How one kind of weight meets float32 inputs (already rounded to bf16 unless it is f32).
template <WeightKind kKind>
struct FloatDot {
  static constexpr int kStep = kLanes;  // inputs consumed at a time
  static constexpr int kWeightBytes =
      kKind == WeightKind::kF32 ? 4 : (kKind == WeightKind::kE4m3 ? 1 : 2);
  static constexpr int kInputBytes = 4;
  static constexpr bool kScaled = kKind == WeightKind::kE4m3;
  using Weight = F;
  using Input = F;

  static Weight load_weight(const unsigned char* p) {
    if constexpr (kKind == WeightKind::kF32) return load(p);
    if constexpr (kKind == WeightKind::kF16) return load_f16(p);
    if constexpr (kKind == WeightKind::kBf16) return load_bf16(p);
    if constexpr (kKind == WeightKind::kE4m3) return load_e4m3(p);
  }
  static Input load_input(const unsigned char* p) { return load(p); }
  static F accumulate(F sum, Weight w, Input x) { return fma(w, x, sum); }
};

// Inputs of a packed row: K rounded up so that no load passes its end.
inline std::size_t padded_inputs(int k) {
  return (static_cast<std::size_t>(k) + 31) / 32 * 32;
}

template <class Dot>
inline typename Dot::Weight load_weight_some(const unsigned char* p, int n) {
  alignas(64) unsigned char buffer[Dot::kStep * Dot::kWeightBytes] = {};
  __builtin_memcpy(buffer, p, static_cast<std::size_t>(n) * Dot::kWeightBytes);
  return Dot::load_weight(buffer);
}

template <class Dot, int kFeatures, int kRows>
inline void accumulate_range(const Strip& strip, const unsigned char* const* w,
                             const unsigned char* const* x, int begin, int end,
                             SpreadPrefetch& prefetch, F (&sums)[kFeatures][kRows]) {
  int k = begin;
  for (; k + Dot::kStep <= end; k += Dot::kStep) {
    if (k % kPrefetchInputs == 0) prefetch.ask();
    typename Dot::Weight weight[kFeatures];
    for (int f = 0; f < kFeatures; ++f) {
      weight[f] = Dot::load_weight(w[f] + static_cast<std::size_t>(k) * Dot::kWeightBytes);
    }
    for (int r = 0; r < kRows; ++r) {
      const auto input = Dot::load_input(x[r] + skip(k, Dot::kInputBytes));
      for (int f = 0; f < kFeatures; ++f) {
        sums[f][r] = Dot::accumulate(sums[f][r], weight[f], input);
      }
    }
  }
  if (k == end) return;
  for (int f = 0; f < kFeatures; ++f) {
    const auto weight =
        load_weight_some<Dot>(w[f] + static_cast<std::size_t>(k) * Dot::kWeightBytes,
                              strip.k - k < Dot::kStep ? strip.k - k : Dot::kStep);
    for (int r = 0; r < kRows; ++r) {
      const auto input = Dot::load_input(x[r] + skip(k, Dot::kInputBytes));
      sums[f][r] = Dot::accumulate(sums[f][r], weight, input);
    }
  }
}

template <class Dot, int kFeatures, int kRows>
inline void product_block(const Strip& strip, int first_feature, const unsigned char* packed,
                          float* out, std::size_t out_stride, SpreadPrefetch& prefetch) {
  const unsigned char* w[kFeatures];
  const unsigned char* x[kRows];
  for (int f = 0; f < kFeatures; ++f) {
    w[f] = strip.weights + static_cast<std::size_t>(first_feature + f) * strip.stride_bytes;
  }
  const std::size_t row_bytes = padded_inputs(strip.k) * Dot::kInputBytes;
  for (int r = 0; r < kRows; ++r) x[r] = packed + skip(r, row_bytes);

  F totals[kFeatures][kRows] = {};
  if constexpr (Dot::kScaled) {
    for (int begin = 0; begin < strip.k; begin += kScaleBlock) {
      const int end = begin + kScaleBlock < strip.k ? begin + kScaleBlock : strip.k;
      F sums[kFeatures][kRows] = {};
      accumulate_range<Dot, kFeatures, kRows>(strip, w, x, begin, end, prefetch, sums);
      const F scale = broadcast(strip.scales[begin / kScaleBlock]);
      for (int f = 0; f < kFeatures; ++f) {
        for (int r = 0; r < kRows; ++r) totals[f][r] = fma(sums[f][r], scale, totals[f][r]);
      }
    }
  } else {
    accumulate_range<Dot, kFeatures, kRows>(strip, w, x, 0, strip.k, prefetch, totals);
  }
  store_sums(totals, out + first_feature, out_stride);
}

// Features whose weights are read side by side.
template <class Dot>
inline constexpr int kFeaturesAtOnce = Dot::kScaled || kLanes < 16 ? 2 : 4;
// A single row waits for memory alone: where a step is a whole line of weights, one sum keeps up,
// and one run of memory at a time comes faster.
template <class Dot>
inline constexpr int kFeaturesOfOneRow = (Dot::kStep * Dot::kWeightBytes) == 64
                                             ? 1
                                             : kFeaturesAtOnce<Dot>;

template <class Dot, int kRows, int kFeatures = kFeaturesAtOnce<Dot>>
inline void product_rows(const Strip& strip, const unsigned char* packed, float* out,
                         std::size_t out_stride, SpreadPrefetch& prefetch) {
  int f = 0;
  for (; f + kFeatures <= strip.features; f += kFeatures) {
    product_block<Dot, kFeatures, kRows>(strip, f, packed, out, out_stride, prefetch);
  }
  for (; f < strip.features; ++f) {
    product_block<Dot, 1, kRows>(strip, f, packed, out, out_stride, prefetch);
  }
}

template <class Dot>
void dot_product(const Strip& strip, const void* packed, int n_rows, float* out,
                 std::size_t out_stride, Upcoming next) {
  const std::size_t row_bytes = padded_inputs(strip.k) * Dot::kInputBytes;
  const auto* rows = static_cast<const unsigned char*>(packed);
  // Two and three rows cost hardly more than one: both wait for the weights.
  const int calls = n_rows / 4 + n_rows % 4 / 2 + n_rows % 2;
  const int features = n_rows == 1 ? kFeaturesOfOneRow<Dot> : kFeaturesAtOnce<Dot>;
  const int blocks = calls * strip.features / features;
  SpreadPrefetch prefetch(next, blocks * (strip.k / kPrefetchInputs));
  if (n_rows == 1) {
    product_rows<Dot, 1, kFeaturesOfOneRow<Dot>>(strip, rows, out, out_stride, prefetch);
    return;
  }
  const auto multiply = [&]<int kRows>(int r) {
    product_rows<Dot, kRows>(strip, rows + skip(r, row_bytes), out + skip(r, out_stride),
                             out_stride, prefetch);
  };
  int r = 0;
  for (; r + 4 <= n_rows; r += 4) multiply.template operator()<4>(r);
  if (r + 2 <= n_rows) {
    multiply.template operator()<2>(r);
    r += 2;
  }
  if (r < n_rows) multiply.template operator()<1>(r);
}

inline std::size_t packed_float_tile_bytes(int k) {
  return kTileRows * padded_inputs(k) * sizeof(float);
}

// Row-major floats, zero beyond k.
inline void pack_float_tile(bool round, const float* const* rows, int n_rows, int k, void* out) {
  const std::size_t width = padded_inputs(k);
  for (int r = 0; r < n_rows; ++r) {
    float* to = static_cast<float*>(out) + skip(r, width);
    for (int i = 0; i < static_cast<int>(width); i += kLanes, to += kLanes) {
      F v{};
      if (i + kLanes <= k) {
        v = load(rows[r] + i);
      } else if (i < k) {
        v = load_some(rows[r] + i, k - i);
      }
      store(to, round ? round_bf16(v) : v);
    }
  }
}

template <WeightKind kKind>
inline void weighted_sum_of(const unsigned char* w, std::size_t stride_bytes, const float* c, int n,
                            int width, float scale, float* out) {
  using Dot = FloatDot<kKind>;
  for (int column = 0; column < width; column += kLanes) {
    const int lanes = width - column < kLanes ? width - column : kLanes;
    const unsigned char* at = w + static_cast<std::size_t>(column) * Dot::kWeightBytes;
    F total{};
    for (int i = 0; i < n; ++i, at += stride_bytes) {
      const F weight = lanes == kLanes ? Dot::load_weight(at) : load_weight_some<Dot>(at, lanes);
      total = fma(broadcast(c[i]), weight, total);
    }
    store_some(out + column, fma(total, broadcast(scale), load_some(out + column, lanes)), lanes);
  }
}

inline void weighted_sum(WeightKind kind, const unsigned char* w, std::size_t stride_bytes,
                         const float* c, int n, int width, float scale, float* out) {
  switch (kind) {
    case WeightKind::kF32:
      return weighted_sum_of<WeightKind::kF32>(w, stride_bytes, c, n, width, scale, out);
    case WeightKind::kF16:
      return weighted_sum_of<WeightKind::kF16>(w, stride_bytes, c, n, width, scale, out);
    case WeightKind::kBf16:
      return weighted_sum_of<WeightKind::kBf16>(w, stride_bytes, c, n, width, scale, out);
    case WeightKind::kE4m3:
      return weighted_sum_of<WeightKind::kE4m3>(w, stride_bytes, c, n, width, scale, out);
  }
}

}  // namespace
}  // namespace moeopt::cpu::fast
