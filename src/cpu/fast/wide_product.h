// Strips of weights of any kind times float32 rows. Few rows meet the weights as stored
// (dot_product.h); for many, a block of weights is widened once into the first-level cache, so that
// nothing but loads and multiply-adds is left for each row. Included only by kernels_*.cpp, see
// lanes.h.
// Invariant: both ways add an output's terms in the same order (dot_product.h), so a row's bits do
// not depend on how many rows there are.
#pragma once

#include "cpu/fast/dot_product.h"

namespace moeopt::cpu::fast {
namespace {

// Rows from which on widening pays: a strip of 2048 inputs takes 16.3 us as stored and 15 us wide.
inline constexpr int kWidenRows = 12;
inline constexpr int kWideInputs = 1024;  // of one block of K: a multiple of kScaleBlock
// Features of a block: with four rows, as many sums as registers hold. e4m3 has two for each.
inline constexpr int kWideFeatures = kLanes == 16 ? 6 : (kLanes == 8 ? 3 : 2);
inline constexpr int kWideScaledFeatures = kLanes == 16 ? 3 : 1;
// From one widened feature to the next: not a power of two, which would fall on few cache sets.
inline constexpr std::size_t kWideStride = kWideInputs + 16;

inline constexpr std::size_t kWideBytes = kWideFeatures * kWideStride * sizeof(float);
// Between blocks of K the sums rest as they are, lane by lane.
inline constexpr std::size_t kRestingBytes =
    std::size_t{kBlockRows} * kWideFeatures * kLanes * sizeof(float);
static_assert(kWideBytes % 64 == 0 && kWideBytes + kRestingBytes <= kProductScratchBytes);

// Inputs [begin, end) of features [first, first + n) as float32, zero up to a whole vector.
template <WeightKind kKind>
inline void widen_weights(const Strip& strip, int first, int n, int begin, int end, float* to) {
  using Dot = FloatDot<kKind>;
  for (int f = first; f < first + n; ++f, to += kWideStride) {
    const unsigned char* from = strip.weights + skip(f, strip.stride_bytes);
    int k = begin;
    for (; k + kLanes <= end; k += kLanes) {
      store(to + (k - begin), Dot::load_weight(from + skip(k, Dot::kWeightBytes)));
    }
    if (k < end) {
      store(to + (k - begin), load_weight_some<Dot>(from + skip(k, Dot::kWeightBytes), end - k));
    }
  }
}

// What one block of K adds to the sums of kFeatures by kRows outputs.
struct WideBlock {
  int inputs;              // rounded up to whole vectors
  std::size_t row_stride;  // of x
  const float* scales;     // e4m3: of each kScaleBlock inputs
  bool first, last;        // of all blocks of K
  std::size_t out_stride;
};

// The loops over a block's sums are unrolled by request: left to itself GCC unrolls some of them
// after it has decided that an array whose index is no constant lives in memory.
template <int kFeatures, int kRows>
inline void accumulate_wide(const float* w, const float* x, std::size_t row_stride, int inputs,
                            F (&sums)[kFeatures][kRows]) {
  for (int k = 0; k < inputs; k += kLanes) {
    F weight[kFeatures];
#pragma GCC unroll 8
    for (int f = 0; f < kFeatures; ++f) weight[f] = load(w + skip(f, kWideStride) + k);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F input = load(x + skip(r, row_stride) + k);
#pragma GCC unroll 8
      for (int f = 0; f < kFeatures; ++f) sums[f][r] = fma(weight[f], input, sums[f][r]);
    }
  }
}

template <bool kScaled, int kFeatures, int kRows>
[[gnu::always_inline]] inline void wide_block(const WideBlock& block, const float* w,
                                              const float* x, float* resting, float* out) {
  constexpr int kSums = kFeatures * kRows;
  F totals[kFeatures][kRows] = {};
  if (!block.first) {
#pragma GCC unroll 32
    for (int i = 0; i < kSums; ++i) totals[i / kRows][i % kRows] = load(resting + skip(i, kLanes));
  }
  if constexpr (kScaled) {
    for (int begin = 0; begin < block.inputs; begin += kScaleBlock) {
      const int n = block.inputs - begin < kScaleBlock ? block.inputs - begin : kScaleBlock;
      F sums[kFeatures][kRows] = {};
      accumulate_wide<kFeatures, kRows>(w + begin, x + begin, block.row_stride, n, sums);
      const F scale = broadcast(block.scales[begin / kScaleBlock]);
#pragma GCC unroll 32
      for (int i = 0; i < kSums; ++i) {
        F& total = totals[i / kRows][i % kRows];
        total = fma(sums[i / kRows][i % kRows], scale, total);
      }
    }
  } else {
    accumulate_wide<kFeatures, kRows>(w, x, block.row_stride, block.inputs, totals);
  }
  if (block.last) {
    store_sums(totals, out, block.out_stride);
    return;
  }
#pragma GCC unroll 32
  for (int i = 0; i < kSums; ++i) store(resting + skip(i, kLanes), totals[i / kRows][i % kRows]);
}

// Features [first, first + kFeatures) of the strip for all rows.
template <WeightKind kKind, int kFeatures>
inline void wide_features(const Strip& strip, int first, const float* rows, int n_rows, float* out,
                          std::size_t out_stride, unsigned char* scratch,
                          SpreadPrefetch& prefetch) {
  constexpr bool kScaled = FloatDot<kKind>::kScaled;
  auto* wide = reinterpret_cast<float*>(scratch);
  auto* resting = reinterpret_cast<float*>(scratch + kWideBytes);
  const std::size_t row_stride = padded_inputs(strip.k);
  for (int begin = 0; begin < strip.k; begin += kWideInputs) {
    const int end = strip.k - begin < kWideInputs ? strip.k : begin + kWideInputs;
    widen_weights<kKind>(strip, first, kFeatures, begin, end, wide);
    const WideBlock block = {(end - begin + kLanes - 1) / kLanes * kLanes,
                             row_stride,
                             kScaled ? strip.scales + begin / kScaleBlock : nullptr,
                             begin == 0,
                             end == strip.k,
                             out_stride};
    int r = 0;
    for (; r + 4 <= n_rows; r += 4) {
      prefetch.ask();
      // Long before its lines are written: a wide result is in no cache.
      for (int i = r; i < r + 4; ++i) __builtin_prefetch(out + skip(i, out_stride) + first, 1);
      wide_block<kScaled, kFeatures, 4>(block, wide, rows + skip(r, row_stride) + begin,
                                        resting + skip(r * kFeatures, kLanes),
                                        out + skip(r, out_stride) + first);
    }
    for (; r < n_rows; ++r) {
      wide_block<kScaled, kFeatures, 1>(block, wide, rows + skip(r, row_stride) + begin,
                                        resting + skip(r * kFeatures, kLanes),
                                        out + skip(r, out_stride) + first);
    }
  }
}

// wide_features of `n` features, 1 <= n <= kMost.
template <WeightKind kKind, int kMost, typename... Arguments>
inline void wide_features_of(int n, Arguments&... arguments) {
  if constexpr (kMost > 1) {
    if (n < kMost) return wide_features_of<kKind, kMost - 1>(n, arguments...);
  }
  wide_features<kKind, kMost>(arguments...);
}

template <WeightKind kKind>
void wide_product(const Strip& strip, const void* packed, int n_rows, float* out,
                  std::size_t out_stride, void* scratch, Upcoming next) {
  constexpr int kMost = FloatDot<kKind>::kScaled ? kWideScaledFeatures : kWideFeatures;
  const auto* rows = static_cast<const float*>(packed);
  auto* memory = static_cast<unsigned char*>(scratch);
  const int groups = (strip.features + kMost - 1) / kMost;
  const int k_blocks = (strip.k + kWideInputs - 1) / kWideInputs;
  SpreadPrefetch prefetch(next, groups * k_blocks * (n_rows / 4));
  for (int group = 0, first = 0; group < groups; ++group) {
    const int end = strip.features * (group + 1) / groups;
    wide_features_of<kKind, kMost>(end - first, strip, first, rows, n_rows, out, out_stride, memory,
                                   prefetch);
    first = end;
  }
}

template <WeightKind kKind>
inline void float_product_of(const Strip& strip, const void* packed, int n_rows, float* out,
                             std::size_t out_stride, void* scratch, Upcoming next) {
  if (n_rows >= kWidenRows) {
    wide_product<kKind>(strip, packed, n_rows, out, out_stride, scratch, next);
  } else {
    dot_product<FloatDot<kKind>>(strip, packed, n_rows, out, out_stride, next);
  }
}

// The product of any kind on float32 inputs packed by pack_float_tile.
inline void float_product(WeightKind kind, const Strip& strip, const void* packed, int n_rows,
                          float* out, std::size_t out_stride, void* scratch, Upcoming next) {
  switch (kind) {
    case WeightKind::kF32:
      return float_product_of<WeightKind::kF32>(strip, packed, n_rows, out, out_stride, scratch,
                                                next);
    case WeightKind::kF16:
      return float_product_of<WeightKind::kF16>(strip, packed, n_rows, out, out_stride, scratch,
                                                next);
    case WeightKind::kBf16:
      return float_product_of<WeightKind::kBf16>(strip, packed, n_rows, out, out_stride, scratch,
                                                 next);
    case WeightKind::kE4m3:
      return float_product_of<WeightKind::kE4m3>(strip, packed, n_rows, out, out_stride, scratch,
                                                 next);
  }
}

}  // namespace
}  // namespace moeopt::cpu::fast
