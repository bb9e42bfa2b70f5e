// Strips of weights times packed rows, by AMX tiles. Included only by kernels_amx.cpp.
// A block of K is staged first: the strip's weights are copied (e4m3: widened) into tile order in a
// buffer that stays in the first-level cache. That makes any alignment, stride and tail alike, and
// costs little: from memory a core reads far slower than it copies within its cache.
#pragma once

#include "cpu/fast/amx_tiles.h"
#include "cpu/fast/bf16_dot.h"
#include "cpu/fast/kernels.h"
#include "cpu/fast/transpose.h"

namespace moeopt::cpu::fast {
namespace {

inline constexpr int kTileInputs = 32;  // K of one tile operation
inline constexpr int kStageInputs = 512;
inline constexpr std::size_t kStageBytes = std::size_t{kStripFeatures} * kStageInputs * 2;
inline constexpr std::size_t kSumBytes = std::size_t{kBlockRows} * kStripFeatures * 4;
static_assert(kStageBytes + kSumBytes + 4 * kTileBytes <= kProductScratchBytes);

inline int tiles_of(int k) {
  return (k + kTileInputs - 1) / kTileInputs;
}

inline std::size_t amx_packed_tile_bytes(int k) {
  return static_cast<std::size_t>(tiles_of(k)) * kTileBytes;
}

// Row i of a tile: inputs 2i and 2i + 1 of each of 16 rows.
void amx_pack_tile(const float* const* rows, int n_rows, int k, unsigned char* out) {
  for (int begin = 0; begin < k; begin += kTileInputs) {
    const int n = k - begin < kTileInputs ? k - begin : kTileInputs;
    __m512i tile[kTileRows];
    for (int r = 0; r < kTileRows; ++r) {
      if (r >= n_rows) {
        tile[r] = _mm512_setzero_si512();
      } else if (n == kTileInputs) {
        tile[r] = load_as_bf16(rows[r] + begin);
      } else {
        tile[r] = load_some_as_bf16(rows[r] + begin, n);
      }
    }
    transpose_16x16(tile);
    for (int i = 0; i < 16; ++i) _mm512_store_si512(out + 64 * i, tile[i]);
    out += kTileBytes;
  }
}

// Steps through what will be read next and asks for it, a few cache lines at a time.
class Prefetcher {
 public:
  Prefetcher(Upcoming next) : at_(next.data), end_(next.data + next.bytes) {}
  void ask(int lines) {
    for (int i = 0; i < lines && at_ < end_; ++i, at_ += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(at_), _MM_HINT_T1);
    }
  }

 private:
  const unsigned char* at_;
  const unsigned char* end_;
};

inline __m512i load_weights(WeightKind kind, const unsigned char* row, int k, int n) {
  const __mmask32 mask = n >= kTileInputs ? ~0u : (1u << n) - 1u;
  if (kind == WeightKind::kBf16) return _mm512_maskz_loadu_epi16(mask, row + 2 * std::size_t(k));
  return widen_e4m3(_mm256_maskz_loadu_epi8(mask, row + k));
}

// stage: for each kTileInputs of [begin, end) a tile of features 0-15, then one of 16-31.
inline void stage_weights(WeightKind kind, const Strip& strip, int begin, int end,
                          unsigned char* stage, Prefetcher& prefetcher) {
  const int feature_tiles = strip.features > kTileRows ? 2 : 1;
  for (int f = 0; f < feature_tiles * kTileRows; ++f) {
    unsigned char* to = stage + static_cast<std::size_t>(f) * 64;
    if (f >= strip.features) {
      for (int k = begin; k < end; k += kTileInputs, to += 2 * kTileBytes) {
        _mm512_store_si512(to, _mm512_setzero_si512());
      }
      continue;
    }
    const unsigned char* row = strip.weights + static_cast<std::size_t>(f) * strip.stride_bytes;
    for (int k = begin; k < end; k += kTileInputs, to += 2 * kTileBytes) {
      _mm512_store_si512(to, load_weights(kind, row, k, strip.k - k));
    }
    prefetcher.ask(4);
  }
}

// sums (tiles [row tile][feature tile] at `to`) = or += stage * packed over n_steps tiles of K.
template <int kFeatureTiles, int kRowTiles>
inline void multiply(const unsigned char* stage, const unsigned char* packed,
                     std::size_t packed_stride, int n_steps, bool resume, unsigned char* sums,
                     Prefetcher& prefetcher, int prefetch_lines) {
  if (resume) {
    _tile_loadd(0, sums, 64);
    if constexpr (kFeatureTiles > 1) _tile_loadd(1, sums + kTileBytes, 64);
    if constexpr (kRowTiles > 1) _tile_loadd(2, sums + 2 * kTileBytes, 64);
    if constexpr (kRowTiles * kFeatureTiles == 4) _tile_loadd(3, sums + 3 * kTileBytes, 64);
  } else {
    _tile_zero(0);
    if constexpr (kFeatureTiles > 1) _tile_zero(1);
    if constexpr (kRowTiles > 1) _tile_zero(2);
    if constexpr (kRowTiles * kFeatureTiles == 4) _tile_zero(3);
  }
  for (int step = 0; step < n_steps; ++step) {
    _tile_loadd(4, stage, 64);
    _tile_loadd(6, packed, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kFeatureTiles > 1) {
      _tile_loadd(5, stage + kTileBytes, 64);
      _tile_dpbf16ps(1, 5, 6);
    }
    if constexpr (kRowTiles > 1) {
      _tile_loadd(7, packed + packed_stride, 64);
      _tile_dpbf16ps(2, 4, 7);
      if constexpr (kFeatureTiles > 1) _tile_dpbf16ps(3, 5, 7);
    }
    stage += 2 * kTileBytes;
    packed += kTileBytes;
    prefetcher.ask(prefetch_lines);
  }
  _tile_stored(0, sums, 64);
  if constexpr (kFeatureTiles > 1) _tile_stored(1, sums + kTileBytes, 64);
  if constexpr (kRowTiles > 1) _tile_stored(2, sums + 2 * kTileBytes, 64);
  if constexpr (kRowTiles * kFeatureTiles == 4) _tile_stored(3, sums + 3 * kTileBytes, 64);
}

// to += scale * from, n_tiles of them; to = scale * from when `first`.
inline void add_scaled_tiles(const unsigned char* from, float scale, bool first, int n_tiles,
                             unsigned char* to) {
  const __m512 s = _mm512_set1_ps(scale);
  for (std::size_t at = 0; at < static_cast<std::size_t>(n_tiles) * kTileBytes; at += 64) {
    const __m512 sum = first ? _mm512_setzero_ps() : _mm512_load_ps(to + at);
    _mm512_store_ps(to + at, _mm512_fmadd_ps(s, _mm512_load_ps(from + at), sum));
  }
}

// One tile [16 features, 16 rows] into out[row][feature].
inline void store_transposed(const unsigned char* tile, int n_rows, int n_features, float* out,
                             std::size_t out_stride) {
  if (n_rows == 1) {
    const __m512i index =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32(16));
    const auto mask = static_cast<__mmask16>((1u << n_features) - 1u);
    _mm512_mask_storeu_ps(out, mask, _mm512_i32gather_ps(index, tile, 4));
    return;
  }
  __m512i rows[16];
  for (int i = 0; i < 16; ++i) rows[i] = _mm512_load_si512(tile + 64 * i);
  transpose_16x16(rows);
  const auto mask = static_cast<__mmask16>((1u << n_features) - 1u);
  for (int r = 0; r < n_rows; ++r) {
    _mm512_mask_storeu_epi32(out + static_cast<std::size_t>(r) * out_stride, mask, rows[r]);
  }
}

template <int kFeatureTiles>
inline void amx_product_of(WeightKind kind, const Strip& strip, const unsigned char* packed,
                           int n_rows, unsigned char* scratch, Prefetcher prefetcher) {
  unsigned char* stage = scratch;
  unsigned char* sums = scratch + kStageBytes;
  unsigned char* part = sums + kSumBytes;  // e4m3: of one scale block
  const bool scaled = kind == WeightKind::kE4m3;
  const int step_inputs = scaled ? kScaleBlock : kStageInputs;
  const std::size_t packed_bytes = amx_packed_tile_bytes(strip.k);
  const int row_tiles = (n_rows + kTileRows - 1) / kTileRows;
  const int prefetch_lines = row_tiles <= 2 ? 16 : 8;

  for (int begin = 0; begin < strip.k; begin += step_inputs) {
    const int end = begin + step_inputs < strip.k ? begin + step_inputs : strip.k;
    stage_weights(kind, strip, begin, end, stage, prefetcher);
    memory_fence_for_tiles();
    const int n_steps = tiles_of(end - begin);
    const bool resume = begin > 0 && !scaled;
    for (int t = 0; t < row_tiles; t += 2) {
      const unsigned char* x = packed + static_cast<std::size_t>(t) * packed_bytes +
                               static_cast<std::size_t>(begin / kTileInputs) * kTileBytes;
      unsigned char* total = sums + static_cast<std::size_t>(t) * 2 * kTileBytes;
      unsigned char* to = scaled ? part : total;
      const bool pair = t + 1 < row_tiles;
      if (pair) {
        multiply<kFeatureTiles, 2>(stage, x, packed_bytes, n_steps, resume, to, prefetcher,
                                   prefetch_lines);
      } else {
        multiply<kFeatureTiles, 1>(stage, x, packed_bytes, n_steps, resume, to, prefetcher,
                                   prefetch_lines);
      }
      if (scaled) {
        memory_fence_for_tiles();
        add_scaled_tiles(part, strip.scales[begin / kScaleBlock], begin == 0, pair ? 4 : 2, total);
      }
    }
    memory_fence_for_tiles();
  }
}

void amx_product(WeightKind kind, const Strip& strip, const unsigned char* packed, int n_rows,
                 float* out, std::size_t out_stride, unsigned char* scratch, Upcoming next) {
  const TileScope tiles;
  if (strip.features > kTileRows) {
    amx_product_of<2>(kind, strip, packed, n_rows, scratch, Prefetcher(next));
  } else {
    amx_product_of<1>(kind, strip, packed, n_rows, scratch, Prefetcher(next));
  }
  const unsigned char* sums = scratch + kStageBytes;
  for (int r = 0; r < n_rows; r += kTileRows) {
    const int rows = n_rows - r < kTileRows ? n_rows - r : kTileRows;
    for (int f = 0; f < strip.features; f += kTileRows) {
      const int features = strip.features - f < kTileRows ? strip.features - f : kTileRows;
      store_transposed(
          sums + static_cast<std::size_t>(r / kTileRows * 2 + f / kTileRows) * kTileBytes, rows,
          features, out + static_cast<std::size_t>(r) * out_stride + f, out_stride);
    }
  }
}

}  // namespace
}  // namespace moeopt::cpu::fast
