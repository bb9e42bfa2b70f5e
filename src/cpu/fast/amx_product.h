// Strips of weights times packed rows, by AMX tiles. Included only by kernels_amx.cpp.
// Weights are read in place, by tiles that begin at cache lines (a tile load that crosses lines
// takes twice as long, and rows a power of two apart then evict each other from the first-level
// cache); what lies before the first line of a row and after its last whole one is staged: copied
// into a zero-padded tile. Rows that are not all at the same place within a line, and e4m3, are
// staged altogether, a block of K at a time. Invariant: where K is cut depends on K, the kind of
// weight and the rows' place within a cache line alone; a checkpoint's file fixes that place.
#pragma once

#include "cpu/fast/amx_tiles.h"
#include "cpu/fast/bf16_dot.h"
#include "cpu/fast/kernels.h"
#include "cpu/fast/transpose.h"

namespace moeopt::cpu::fast {
namespace {

inline constexpr int kTileInputs = 32;  // K of one tile operation
inline constexpr int kStageInputs = 256;
inline constexpr std::size_t kStageBytes = std::size_t{kStripFeatures} * kStageInputs * 2;
inline constexpr std::size_t kSumBytes = std::size_t{kBlockRows} * kStripFeatures * 4;
static_assert(kStageBytes + kSumBytes + 4 * kTileBytes <= kProductScratchBytes);

inline int tiles_of(int k) {
  return (k + kTileInputs - 1) / kTileInputs;
}

// One tile of zeros follows the inputs, for steps that begin between tiles.
inline std::size_t amx_packed_tile_bytes(int k) {
  return static_cast<std::size_t>(tiles_of(k) + 1) * kTileBytes;
}

// Row i of the tiles, 64 bytes: inputs 2i and 2i + 1 of each of 16 rows.
inline void pack_pairs(const float* const* rows, int n_rows, int k, unsigned char* out) {
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
    for (int i = 0; i < 16; ++i) _mm512_store_si512(out + skip(i, 64), tile[i]);
    out += kTileBytes;
  }
}

inline void amx_pack_tile(const float* const* rows, int n_rows, int k, unsigned char* out) {
  pack_pairs(rows, n_rows, k, out);
  unsigned char* last = out + amx_packed_tile_bytes(k) - kTileBytes;
  for (int i = 0; i < 16; ++i) _mm512_store_si512(last + skip(i, 64), _mm512_setzero_si512());
}

// Steps through what will be read next and asks for it, a few cache lines at a time.
class Prefetcher {
 public:
  Prefetcher(Upcoming next) : at_(next.data), end_(next.data + next.bytes) {}
  int lines() const { return static_cast<int>((end_ - at_) / 64); }
  void ask(int lines) {
    for (int i = 0; i < lines && at_ < end_; ++i, at_ += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(at_), _MM_HINT_T1);
    }
  }

 private:
  const unsigned char* at_;
  const unsigned char* end_;
};

// 32 consecutive weights as bf16.
template <WeightKind kKind>
inline __m512i load_weights(const unsigned char* p) {
  if constexpr (kKind == WeightKind::kBf16) {
    return _mm512_loadu_si512(p);
  } else {
    return widen_e4m3(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
}

// The first n of them, zero beyond.
template <WeightKind kKind>
inline __m512i load_some_weights(const unsigned char* p, int n) {
  const __mmask32 mask = (1u << n) - 1u;
  if constexpr (kKind == WeightKind::kBf16) {
    return _mm512_maskz_loadu_epi16(mask, p);
  } else {
    return widen_e4m3(_mm256_maskz_loadu_epi8(mask, p));
  }
}

// Inputs [k, end) of features [first, first + 16), 32 at most, as a tile; the rest of it is zero.
template <WeightKind kKind>
inline void stage_tile(const Strip& strip, int first, int k, int end, unsigned char* tile) {
  constexpr int kElementBytes = kKind == WeightKind::kBf16 ? 2 : 1;
  const unsigned char* from = strip.weights + static_cast<std::size_t>(first) * strip.stride_bytes +
                              static_cast<std::size_t>(k) * kElementBytes;
  const int features = strip.features - first;
  const int inputs = end - k;
  if (features >= kTileRows && inputs >= kTileInputs) {
    for (int f = 0; f < kTileRows; ++f, from += strip.stride_bytes) {
      _mm512_store_si512(tile + skip(f, 64), load_weights<kKind>(from));
    }
    return;
  }
  for (int f = 0; f < kTileRows; ++f, from += strip.stride_bytes) {
    __m512i row = _mm512_setzero_si512();
    if (f < features) {
      row = inputs >= kTileInputs ? load_weights<kKind>(from)
                                  : load_some_weights<kKind>(from, inputs);
    }
    _mm512_store_si512(tile + skip(f, 64), row);
  }
}

// stage: for each kTileInputs of [begin, end) a tile of features 0-15, then one of 16-31. Tile by
// tile: the stores of a whole row at a time would fall on few sets of the cache.
template <WeightKind kKind>
inline void stage_weights(const Strip& strip, int begin, int end, unsigned char* stage,
                          Prefetcher& prefetcher) {
  for (int k = begin; k < end; k += kTileInputs, stage += 2 * kTileBytes) {
    stage_tile<kKind>(strip, 0, k, end, stage);
    if (strip.features > kTileRows) stage_tile<kKind>(strip, kTileRows, k, end, stage + kTileBytes);
    prefetcher.ask(8);
  }
}

// How K is cut: [0, head) staged, then whole tiles in place, then the rest staged.
struct InPlace {
  bool possible;
  int head;
};

template <WeightKind kKind, int kFeatureTiles>
inline InPlace in_place(const Strip& strip) {
  const auto into_line = static_cast<int>(reinterpret_cast<std::uintptr_t>(strip.weights) % 64);
  const bool possible = kKind == WeightKind::kBf16 && into_line % 4 == 0 &&
                        strip.stride_bytes % 64 == 0 && strip.features == kFeatureTiles * kTileRows;
  return {possible, into_line == 0 ? 0 : (64 - into_line) / 2};
}

// Where the tiles of weights lie: staged, or in the matrix itself.
struct WeightTiles {
  const unsigned char* first;
  std::size_t row_stride;   // from one feature to the next
  std::size_t second_tile;  // from the tile of features 0-15 to that of 16-31
  std::size_t step;         // to the next kTileInputs
};

// sums (tiles [row tile][feature tile] at `to`) = or += weights * packed over n_steps tiles of K.
template <int kFeatureTiles, int kRowTiles>
inline void multiply(WeightTiles weights, const unsigned char* packed, std::size_t packed_stride,
                     int n_steps, bool resume, unsigned char* sums, Prefetcher& prefetcher,
                     int prefetch_lines) {
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
  const unsigned char* w = weights.first;
  for (int step = 0; step < n_steps; ++step) {
    _tile_loadd(4, w, weights.row_stride);
    _tile_loadd(6, packed, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kFeatureTiles > 1) {
      _tile_loadd(5, w + weights.second_tile, weights.row_stride);
      _tile_dpbf16ps(1, 5, 6);
    }
    if constexpr (kRowTiles > 1) {
      _tile_loadd(7, packed + packed_stride, 64);
      _tile_dpbf16ps(2, 4, 7);
      if constexpr (kFeatureTiles > 1) _tile_dpbf16ps(3, 5, 7);
    }
    w += weights.step;
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

// One tile [16 features, 16 rows] into out[row][feature]. With `past_caches` whole lines are
// written to memory without being read first.
inline void store_transposed(const unsigned char* tile, int n_rows, int n_features,
                             bool past_caches, float* out, std::size_t out_stride) {
  const auto mask = static_cast<__mmask16>((1u << n_features) - 1u);
  if (n_rows == 1) {
    const __m512i index =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32(16));
    _mm512_mask_storeu_ps(out, mask, _mm512_i32gather_ps(index, tile, 4));
    return;
  }
  __m512i rows[16];
  for (int i = 0; i < 16; ++i) rows[i] = _mm512_load_si512(tile + skip(i, 64));
  transpose_16x16(rows);
  for (int r = 0; r < n_rows; ++r, out += out_stride) {
    if (past_caches) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(out), rows[r]);
    } else {
      _mm512_mask_storeu_epi32(out, mask, rows[r]);
    }
  }
}

template <WeightKind kKind, int kFeatureTiles>
inline void amx_product_of(const Strip& strip, const unsigned char* packed, int n_rows,
                           unsigned char* scratch, Prefetcher prefetcher) {
  constexpr bool kScaled = kKind == WeightKind::kE4m3;
  unsigned char* stage = scratch;
  unsigned char* sums = scratch + kStageBytes;
  unsigned char* part = sums + kSumBytes;  // e4m3: of one scale block
  const std::size_t packed_bytes = amx_packed_tile_bytes(strip.k);
  const int row_tiles = (n_rows + kTileRows - 1) / kTileRows;
  const InPlace place = in_place<kKind, kFeatureTiles>(strip);
  // Spread over the whole call: the tiles' own loads need the cache's fill buffers too.
  const int prefetch_lines = prefetcher.lines() / (tiles_of(strip.k) * ((row_tiles + 1) / 2)) + 1;

  for (int begin = 0, end = 0; begin < strip.k; begin = end) {
    WeightTiles weights{stage, 64, kTileBytes, 2 * kTileBytes};
    if (place.possible && begin >= place.head && strip.k - begin >= kTileInputs) {
      end = begin + (strip.k - begin) / kTileInputs * kTileInputs;
      weights = {strip.weights + 2 * static_cast<std::size_t>(begin), strip.stride_bytes,
                 kTileRows * strip.stride_bytes, 64};
    } else {
      const int most = kScaled ? kScaleBlock : kStageInputs;
      end = begin + most < strip.k ? begin + most : strip.k;
      if (place.possible && begin < place.head && place.head < end) end = place.head;
      stage_weights<kKind>(strip, begin, end, stage, prefetcher);
    }
    memory_fence_for_tiles();
    const int n_steps = tiles_of(end - begin);
    const bool resume = begin > 0 && !kScaled;
    for (int t = 0; t < row_tiles; t += 2) {
      const unsigned char* x = packed + static_cast<std::size_t>(t) * packed_bytes +
                               static_cast<std::size_t>(begin / 2) * 64;
      unsigned char* total = sums + static_cast<std::size_t>(t) * 2 * kTileBytes;
      unsigned char* to = kScaled ? part : total;
      const bool pair = t + 1 < row_tiles;
      if (pair) {
        multiply<kFeatureTiles, 2>(weights, x, packed_bytes, n_steps, resume, to, prefetcher,
                                   prefetch_lines);
      } else {
        multiply<kFeatureTiles, 1>(weights, x, packed_bytes, n_steps, resume, to, prefetcher,
                                   prefetch_lines);
      }
      if constexpr (kScaled) {
        memory_fence_for_tiles();
        add_scaled_tiles(part, strip.scales[begin / kScaleBlock], begin == 0, pair ? 4 : 2, total);
      }
    }
    memory_fence_for_tiles();
  }
}

template <WeightKind kKind>
inline void amx_product_of_kind(const Strip& strip, const unsigned char* packed, int n_rows,
                                unsigned char* scratch, Upcoming next) {
  if (strip.features > kTileRows) {
    amx_product_of<kKind, 2>(strip, packed, n_rows, scratch, Prefetcher(next));
  } else {
    amx_product_of<kKind, 1>(strip, packed, n_rows, scratch, Prefetcher(next));
  }
}

inline void amx_product(WeightKind kind, const Strip& strip, const unsigned char* packed,
                        int n_rows, float* out, std::size_t out_stride, unsigned char* scratch,
                        Upcoming next) {
  const TileScope tiles;
  if (kind == WeightKind::kBf16) {
    amx_product_of_kind<WeightKind::kBf16>(strip, packed, n_rows, scratch, next);
  } else {
    amx_product_of_kind<WeightKind::kE4m3>(strip, packed, n_rows, scratch, next);
  }
  // Many rows of a wide result are read only after they have left the caches anyway.
  const bool past_caches = n_rows > 2 * kTileRows && out_stride > kStripFeatures &&
                           strip.features % kTileRows == 0 && out_stride % 16 == 0 &&
                           reinterpret_cast<std::uintptr_t>(out) % 64 == 0;
  const unsigned char* sums = scratch + kStageBytes;
  for (int r = 0; r < n_rows; r += kTileRows) {
    const int rows = n_rows - r < kTileRows ? n_rows - r : kTileRows;
    for (int f = 0; f < strip.features; f += kTileRows) {
      const int features = strip.features - f < kTileRows ? strip.features - f : kTileRows;
      const int tile = r / kTileRows * 2 + f / kTileRows;
      store_transposed(sums + static_cast<std::size_t>(tile) * kTileBytes, rows, features,
                       past_caches, out + static_cast<std::size_t>(r) * out_stride + f, out_stride);
    }
  }
  if (past_caches) _mm_sfence();
}

}  // namespace
}  // namespace moeopt::cpu::fast
