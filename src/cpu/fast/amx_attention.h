// Softmax attention over the paged cache, sixteen queries at a time, by AMX tiles. Included only by
// kernels_amx.cpp.
// For a tile of kPositionTile positions: S = K Q^T with the keys as operand A and packed queries as
// B, so that the softmax runs down the columns with a query in each lane; then O += P V with P
// transposed back and V's positions in pairs. Q and P are rounded to bf16, sums are float32.
// Invariant: as in attention_lanes.h; a lane's result depends on its own query alone, whatever the
// other lanes hold (as long as the values are finite: a position that a query does not see counts
// zero times its value).
#pragma once

#include "cpu/fast/amx_product.h"
#include "cpu/fast/attention_lanes.h"

namespace moeopt::cpu::fast {
namespace {

inline constexpr int kQueryTiles = kMaxQueries / kTileRows;
static_assert(kPositionTile == kTileInputs);

inline std::size_t padded_width(int width) {
  return static_cast<std::size_t>(tiles_of(width)) * kTileInputs;
}

// Memory of one call; all pieces are multiples of 64 bytes.
struct AttentionArea {
  unsigned char* queries;  // [query tile][width / 32] tiles: operand B of S
  unsigned char* keys;     // [width / 32][2] tiles: operand A of S
  unsigned char* values;   // [width / 16] tiles of position pairs: operand B of P V
  unsigned char* scores;   // 2 tiles [16 positions, 16 queries]
  unsigned char* weights;  // 1 tile [16 queries, 32 positions], bf16: operand A of P V
  float* out;              // [query][padded value width]
  float* largest;          // [query]
  float* denominator;      // [query]
};

inline std::size_t take_area(unsigned char* memory, int key_width, int value_width,
                             AttentionArea& area) {
  const std::size_t keys = padded_width(key_width);
  const std::size_t values = padded_width(value_width);
  unsigned char* at = memory;
  area.queries = at;
  at += kMaxQueries * keys * 2;
  area.keys = at;
  at += kPositionTile * keys * 2;
  area.values = at;
  at += kPositionTile * values * 2;
  area.scores = at;
  at += 2 * kTileBytes;
  area.weights = at;
  at += kTileBytes;
  area.out = reinterpret_cast<float*>(at);
  at += kMaxQueries * values * sizeof(float);
  area.largest = reinterpret_cast<float*>(at);
  at += kMaxQueries * sizeof(float);
  area.denominator = reinterpret_cast<float*>(at);
  at += kMaxQueries * sizeof(float);
  return static_cast<std::size_t>(at - memory);
}

inline std::size_t amx_attention_scratch_bytes(int key_width, int value_width) {
  alignas(64) static unsigned char base[64];
  AttentionArea area;
  return take_area(base, key_width, value_width, area);
}

inline int total_key_width(const PagedKeys& keys) {
  return keys.key_width[0] + (keys.key_parts > 1 ? keys.key_width[1] : 0);
}

inline __m512i load_bf16_row(const unsigned char* row, int at, int width) {
  const int n = width - at;
  const __mmask32 mask = n >= 32 ? ~0u : (1u << n) - 1u;
  return _mm512_maskz_loadu_epi16(mask, row + 2 * static_cast<std::size_t>(at));
}

// Keys of positions [first, end) as rows of tiles, zero where there is no position. The parts of a
// key follow each other without padding when the first is a multiple of 32 wide, which stage_keys
// asks for; otherwise they are joined through a buffer.
inline void stage_keys(const PagedKeys& keys, int first, int end, unsigned char* to) {
  const int width = total_key_width(keys);
  const bool joined = keys.key_parts > 1 && keys.key_width[0] % kTileInputs != 0;
  for (int j = 0; j < kPositionTile; ++j) {
    unsigned char* row =
        to + static_cast<std::size_t>(j / 16) * kTileBytes + static_cast<std::size_t>(j % 16) * 64;
    const int position = first + j;
    if (position >= end) {
      for (int at = 0; at < width; at += kTileInputs, row += 2 * kTileBytes) {
        _mm512_store_si512(row, _mm512_setzero_si512());
      }
      continue;
    }
    if (joined) {
      const unsigned char* a = key_at(keys, 0, position);
      const unsigned char* b = key_at(keys, 1, position);
      for (int at = 0; at < width; at += kTileInputs, row += 2 * kTileBytes) {
        alignas(64) unsigned char buffer[64] = {};
        for (int i = at; i < at + kTileInputs && i < width; ++i) {
          const unsigned char* from =
              i < keys.key_width[0] ? a + skip(i, 2) : b + skip(i - keys.key_width[0], 2);
          __builtin_memcpy(buffer + skip(i - at, 2), from, 2);
        }
        _mm512_store_si512(row, _mm512_load_si512(buffer));
      }
      continue;
    }
    for (int part = 0; part < keys.key_parts; ++part) {
      const unsigned char* from = key_at(keys, part, position);
      for (int at = 0; at < keys.key_width[part]; at += kTileInputs, row += 2 * kTileBytes) {
        _mm512_store_si512(row, load_bf16_row(from, at, keys.key_width[part]));
      }
    }
  }
}

// Values of positions [first, end): row i of a tile holds positions 2i and 2i + 1 of 16 elements,
// interleaved.
inline void stage_values(const PagedKeys& keys, int first, int end, unsigned char* to) {
  alignas(64) std::uint16_t order[2][32];
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t half = 0; half < 2; ++half) {
      order[half][2 * i] = static_cast<std::uint16_t>(16 * half + i);
      order[half][2 * i + 1] = static_cast<std::uint16_t>(32 + 16 * half + i);
    }
  }
  const __m512i first_half = _mm512_load_si512(order[0]);
  const __m512i second_half = _mm512_load_si512(order[1]);
  for (int pair = 0; pair < kPositionTile / 2; ++pair) {
    const int position = first + 2 * pair;
    const unsigned char* even = position < end ? value_at(keys, position) : nullptr;
    const unsigned char* odd = position + 1 < end ? value_at(keys, position + 1) : nullptr;
    unsigned char* row = to + static_cast<std::size_t>(pair) * 64;
    for (int at = 0; at < keys.value_width; at += 32, row += 2 * kTileBytes) {
      const __m512i a =
          even != nullptr ? load_bf16_row(even, at, keys.value_width) : _mm512_setzero_si512();
      const __m512i b =
          odd != nullptr ? load_bf16_row(odd, at, keys.value_width) : _mm512_setzero_si512();
      _mm512_store_si512(row, _mm512_permutex2var_epi16(a, first_half, b));
      _mm512_store_si512(row + kTileBytes, _mm512_permutex2var_epi16(a, second_half, b));
    }
  }
}

// scores = keys * queries of one query tile
inline void multiply_scores(const AttentionArea& area, const unsigned char* queries, int n_tiles) {
  memory_fence_for_tiles();
  _tile_zero(0);
  _tile_zero(1);
  const unsigned char* keys = area.keys;
  for (int i = 0; i < n_tiles; ++i) {
    _tile_loadd(4, keys, 64);
    _tile_loadd(5, keys + kTileBytes, 64);
    _tile_loadd(6, queries, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    keys += 2 * kTileBytes;
    queries += kTileBytes;
  }
  _tile_stored(0, area.scores, 64);
  _tile_stored(1, area.scores + kTileBytes, 64);
  memory_fence_for_tiles();
}

// Turns scores into weights p = e^(s - largest) of positions that each query sees, and moves the
// running maximum and sum. Returns whether any query's maximum moved; then *decay is what the sums
// so far must be multiplied by.
inline bool soften(const AttentionArea& area, int tile, __m512i begins, __m512i ends, float scale,
                   int first_query, F* decay) {
  const F lowest = broadcast(-__builtin_inff());
  const F factor = broadcast(scale);
  float* largest_at = area.largest + first_query;
  float* denominator_at = area.denominator + first_query;
  const F old_largest = load(largest_at);
  F largest = old_largest;
  const float* scores = reinterpret_cast<const float*>(area.scores);
  __mmask16 seen[kPositionTile];
  F s[kPositionTile];
  for (int j = 0; j < kPositionTile; ++j) {
    const __m512i position = _mm512_set1_epi32(tile + j);
    seen[j] = static_cast<__mmask16>(_mm512_cmpge_epi32_mask(position, begins) &
                                     _mm512_cmplt_epi32_mask(position, ends));
    s[j] = (F)_mm512_mask_blend_ps(seen[j], (__m512)lowest,
                                   (__m512)(load(scores + skip(j, 16)) * factor));
    largest = max(largest, s[j]);
  }
  // A query that has seen nothing yet keeps its -inf; subtracting 0 then leaves e^-inf = 0.
  const __mmask16 nothing = _mm512_cmpeq_epi32_mask((__m512i)largest, (__m512i)lowest);
  const F shift = (F)_mm512_mask_blend_ps(nothing, (__m512)largest, _mm512_setzero_ps());
  F total{};
  __m512i pairs[16];
  for (int j = 0; j < kPositionTile; j += 2) {
    const F a = exp(s[j] - shift);
    const F b = exp(s[j + 1] - shift);
    total += a;
    total += b;
    // Position j in the lower half of each lane, j + 1 in the upper.
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)a));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)b));
    pairs[j / 2] = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
  transpose_16x16(pairs);
  for (int i = 0; i < 16; ++i) _mm512_store_si512(area.weights + skip(i, 64), pairs[i]);
  *decay = exp(old_largest - shift);
  store(denominator_at, load(denominator_at) * *decay + total);
  store(largest_at, largest);
  return _mm512_cmpneq_epi32_mask((__m512i)largest, (__m512i)old_largest) != 0;
}

inline void scale_rows(float* out, std::size_t width, const float* factors) {
  for (int r = 0; r < kTileRows; ++r) {
    const F factor = broadcast(factors[r]);
    for (std::size_t i = 0; i < width; i += kLanes) {
      store(out + static_cast<std::size_t>(r) * width + i,
            load(out + static_cast<std::size_t>(r) * width + i) * factor);
    }
  }
}

// out += weights * values, [16 queries, padded value width]
inline void add_weighted_values(const AttentionArea& area, float* out, std::size_t width) {
  memory_fence_for_tiles();
  const long stride = static_cast<long>(width * sizeof(float));
  const unsigned char* values = area.values;
  _tile_loadd(4, area.weights, 64);
  for (std::size_t i = 0; i < width; i += 32, values += 2 * kTileBytes) {
    _tile_loadd(0, out + i, stride);
    _tile_loadd(1, out + i + 16, stride);
    _tile_loadd(5, values, 64);
    _tile_loadd(6, values + kTileBytes, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 6);
    _tile_stored(0, out + i, stride);
    _tile_stored(1, out + i + 16, stride);
  }
  memory_fence_for_tiles();
}

inline void pack_queries(const Query* queries, int n_queries, int width, unsigned char* to) {
  const std::size_t tile_bytes = static_cast<std::size_t>(tiles_of(width)) * kTileBytes;
  for (int first = 0; first < n_queries; first += kTileRows, to += tile_bytes) {
    const float* rows[kTileRows];
    const int n = n_queries - first < kTileRows ? n_queries - first : kTileRows;
    for (int i = 0; i < n; ++i) rows[i] = queries[first + i].q;
    pack_pairs(rows, n, width, to);
  }
}

inline void write_out(const AttentionArea& area, const Query* queries, int n_queries,
                      int value_width) {
  const std::size_t width = padded_width(value_width);
  for (int i = 0; i < n_queries; ++i) {
    const float* from = area.out + static_cast<std::size_t>(i) * width;
    const F inverse = broadcast(1.0f / area.denominator[i]);
    for (int at = 0; at < value_width; at += kLanes) {
      const int n = value_width - at < kLanes ? value_width - at : kLanes;
      store_some(queries[i].out + at, load(from + at) * inverse, n);
    }
  }
}

inline void amx_attention(const PagedKeys& keys, const Query* queries, int n_queries, float scale,
                          void* scratch) {
  const TileScope tiles;
  AttentionArea area;
  const int key_width = total_key_width(keys);
  take_area(static_cast<unsigned char*>(scratch), key_width, keys.value_width, area);
  const std::size_t value_width = padded_width(keys.value_width);
  const std::size_t query_tile_bytes = static_cast<std::size_t>(tiles_of(key_width)) * kTileBytes;
  pack_queries(queries, n_queries, key_width, area.queries);

  alignas(64) std::int32_t begins[kMaxQueries];
  alignas(64) std::int32_t ends[kMaxQueries];
  int first = queries[0].begin;
  int end = queries[0].end;
  for (int i = 0; i < kMaxQueries; ++i) {
    begins[i] = i < n_queries ? queries[i].begin : 0;
    ends[i] = i < n_queries ? queries[i].end : 0;  // the lanes of no query see nothing
    if (i < n_queries && begins[i] < first) first = begins[i];
    if (i < n_queries && ends[i] > end) end = ends[i];
    area.largest[i] = -__builtin_inff();
    area.denominator[i] = 0.0f;
  }
  for (std::size_t i = 0; i < kMaxQueries * value_width; i += kLanes) store(area.out + i, F{});

  for (int tile = first / kPositionTile * kPositionTile; tile < end; tile += kPositionTile) {
    stage_keys(keys, tile, end, area.keys);
    stage_values(keys, tile, end, area.values);
    for (int q = 0; q < n_queries; q += kTileRows) {
      const auto query_tile = static_cast<std::size_t>(q / kTileRows);
      multiply_scores(area, area.queries + query_tile * query_tile_bytes, tiles_of(key_width));
      F decay;
      const bool moved = soften(area, tile, _mm512_load_si512(begins + q),
                                _mm512_load_si512(ends + q), scale, q, &decay);
      float* out = area.out + static_cast<std::size_t>(q) * value_width;
      if (moved) {
        alignas(64) float factors[kLanes];
        store(factors, decay);
        scale_rows(out, value_width, factors);
      }
      add_weighted_values(area, out, value_width);
    }
  }
  write_out(area, queries, n_queries, keys.value_width);
}

}  // namespace
}  // namespace moeopt::cpu::fast
