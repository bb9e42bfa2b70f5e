// Softmax attention over the paged cache by float32 vectors, for every instruction set but AMX.
// Included only by kernels_*.cpp, see lanes.h.
// A tile of kPositionTile positions is widened once for all queries of a call: keys with the
// positions in the lanes, values with their elements in them, so that both products add up whole
// vectors and a score needs no sum across lanes.
// Invariant: a query meets its positions in tiles that are aligned to absolute positions, in order;
// the running maximum and sum (Milakov and Gimelshein, arXiv 1805.02867) move once a tile. So the
// result does not depend on how the sequence was cut into steps, nor on the call's other queries
// (as long as the values are finite: a position that a query does not see counts zero times its
// value).
#pragma once

#include "cpu/fast/kernels.h"
#include "cpu/fast/lanes.h"
#if defined(__AVX512BW__)
#include "cpu/fast/transpose.h"
#endif

namespace moeopt::cpu::fast {
namespace {

inline const unsigned char* block_of(const PagedKeys& keys, int position) {
  const auto block = static_cast<std::size_t>(keys.block_table[position / keys.block_tokens]);
  return keys.data + block * keys.block_bytes;
}

inline const unsigned char* key_at(const PagedKeys& keys, int part, int position) {
  return block_of(keys, position) + keys.key_offset_bytes[part] +
         static_cast<std::size_t>(position % keys.block_tokens) * keys.key_stride_bytes[part];
}

inline const unsigned char* value_at(const PagedKeys& keys, int position) {
  return block_of(keys, position) + keys.value_offset_bytes +
         static_cast<std::size_t>(position % keys.block_tokens) * keys.value_stride_bytes;
}

inline F load_bf16_some(const unsigned char* p, int n) {
  alignas(64) unsigned char buffer[2 * kLanes] = {};
  __builtin_memcpy(buffer, p, 2 * static_cast<std::size_t>(n));
  return load_bf16(buffer);
}

// A block of both products: this many queries by two vectors stays in registers.
inline constexpr int kLaneQueries = kLanes == 16 ? 8 : 4;
inline constexpr int kLaneColumns = 2 * kLanes;
static_assert(kPositionTile % kLaneColumns == 0 && kMaxQueries % kLaneQueries == 0);

inline std::size_t lane_value_width(int value_width) {
  return static_cast<std::size_t>((value_width + kLaneColumns - 1) / kLaneColumns) * kLaneColumns;
}

// Memory of one call; all pieces are multiples of 64 bytes.
struct LaneAttentionArea {
  float* queries;  // [kMaxQueries / kLaneQueries][key width][kLaneQueries]
  float* keys;     // [key width][kPositionTile]
  float* values;   // [kPositionTile][padded value width]
  float* weights;  // [kLaneQueries][kPositionTile]: scores, then e^(score - largest)
  float* out;      // [kMaxQueries][padded value width]
};

inline std::size_t take_lane_area(float* memory, int key_width, int value_width,
                                  LaneAttentionArea& area) {
  const std::size_t width = lane_value_width(value_width);
  area.queries = memory;
  area.keys = area.queries + skip(key_width, kMaxQueries);
  area.values = area.keys + skip(key_width, kPositionTile);
  area.weights = area.values + kPositionTile * width;
  area.out = area.weights + skip(kLaneQueries, kPositionTile);
  return static_cast<std::size_t>(area.out + kMaxQueries * width - memory) * sizeof(float);
}

inline int lane_key_width(const PagedKeys& keys) {
  return keys.key_width[0] + (keys.key_parts > 1 ? keys.key_width[1] : 0);
}

inline std::size_t lanes_attention_scratch_bytes(int key_width, int value_width) {
  alignas(64) static float base[16];
  LaneAttentionArea area;
  return take_lane_area(base, key_width, value_width, area);
}

// One part of the keys of positions [first, end) of the tile, zero for its other positions:
// to[element][position].
inline void widen_keys(const PagedKeys& keys, int part, int tile, int first, int end, float* to) {
  const unsigned char* rows[kPositionTile];
  for (int j = 0; j < kPositionTile; ++j) {
    const int position = tile + j;
    rows[j] = position >= first && position < end ? key_at(keys, part, position) : nullptr;
  }
  const int width = keys.key_width[part];
#if defined(__AVX512BW__)
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  for (int at = 0; at < width; at += 32) {
    const int n = width - at < 32 ? width - at : 32;
    const __mmask32 mask = n == 32 ? ~0u : (1u << n) - 1u;
    for (int half = 0; half < kPositionTile; half += 16) {
      __m512i pairs[16];  // of elements, by position; transposed: by pair
      for (int j = 0; j < 16; ++j) {
        const unsigned char* row = rows[half + j];
        pairs[j] = row != nullptr ? _mm512_maskz_loadu_epi16(mask, row + skip(at, 2))
                                  : _mm512_setzero_si512();
      }
      transpose_16x16(pairs);
      float* element = to + skip(at, kPositionTile) + half;
      for (int i = 0; i < n; i += 2, element += skip(2, kPositionTile)) {
        _mm512_store_si512(element, _mm512_slli_epi32(pairs[i / 2], 16));
        if (i + 1 < n) {
          _mm512_store_si512(element + kPositionTile, _mm512_and_si512(pairs[i / 2], upper));
        }
      }
    }
  }
#else
  for (int j = 0; j < kPositionTile; ++j) {
    for (int i = 0; i < width; ++i) {
      std::uint16_t bits = 0;
      if (rows[j] != nullptr) __builtin_memcpy(&bits, rows[j] + skip(i, 2), 2);
      const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
      __builtin_memcpy(to + skip(i, kPositionTile) + j, &wide, 4);
    }
  }
#endif
}

inline void widen_values(const PagedKeys& keys, int tile, int first, int end, float* to) {
  const int width = static_cast<int>(lane_value_width(keys.value_width));
  for (int position = tile; position < tile + kPositionTile; ++position, to += width) {
    const bool seen = position >= first && position < end;
    const unsigned char* from = seen ? value_at(keys, position) : nullptr;
    for (int i = 0; i < width; i += kLanes) {
      const int n = keys.value_width - i;
      F value{};
      if (seen && n > 0) {
        value = n < kLanes ? load_bf16_some(from + skip(i, 2), n) : load_bf16(from + skip(i, 2));
      }
      store(to + i, value);
    }
  }
}

// What a block of rows is multiplied with: b[n][columns].
struct LaneMatrix {
  const float* data;
  int n;
  int columns;  // a multiple of kLaneColumns
};

// c[r] = c[r] * decay[r] + sum over i < b.n, in order, of a[r * kRowStep + i * kStep] * b[i], for
// kRows rows and kLaneColumns columns; c starts from zero without `decay`.
template <int kRows, int kRowStep, int kStep>
inline void add_products(const float* a, const float* b, std::size_t b_stride, int n,
                         const float* decay, float* c, std::size_t c_stride) {
  F sums[kRows][2] = {};
  if (decay != nullptr) {
    for (int r = 0; r < kRows; ++r) {
      const F factor = broadcast(decay[r]);
      sums[r][0] = load(c + skip(r, c_stride)) * factor;
      sums[r][1] = load(c + skip(r, c_stride) + kLanes) * factor;
    }
  }
  for (int i = 0; i < n; ++i, b += b_stride, a += kStep) {
    const F low = load(b);
    const F high = load(b + kLanes);
    for (int r = 0; r < kRows; ++r) {
      const F factor = broadcast(a[skip(r, kRowStep)]);
      sums[r][0] = fma(factor, low, sums[r][0]);
      sums[r][1] = fma(factor, high, sums[r][1]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    store(c + skip(r, c_stride), sums[r][0]);
    store(c + skip(r, c_stride) + kLanes, sums[r][1]);
  }
}

// The same for all columns of n_rows <= kLaneQueries rows.
template <int kRowStep, int kStep>
inline void add_all_products(int n_rows, const float* a, const LaneMatrix& b, const float* decay,
                             float* c) {
  const auto stride = static_cast<std::size_t>(b.columns);
  for (int column = 0; column < b.columns; column += kLaneColumns) {
    if (n_rows == kLaneQueries) {
      add_products<kLaneQueries, kRowStep, kStep>(a, b.data + column, stride, b.n, decay,
                                                  c + column, stride);
      continue;
    }
    for (int r = 0; r < n_rows; ++r) {
      add_products<1, kRowStep, kStep>(a + skip(r, kRowStep), b.data + column, stride, b.n,
                                       decay == nullptr ? nullptr : decay + r,
                                       c + skip(r, stride) + column, stride);
    }
  }
}

struct RunningSoftmax {
  float largest = -__builtin_inff();
  F denominator{};  // lane by lane
};

// The largest lane that is not NaN: a NaN shows in the weights anyway.
inline float largest_lane(F v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float largest = v[0];
  for (int i = 1; i < kLanes; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
#endif
}

inline bool sees(const Query& query, int tile) {
  return tile < query.end && tile + kPositionTile > query.begin;
}

// Turns a query's scores of one tile into weights e^(score - largest), zero where it does not see
// the position. Returns what its sums so far must be multiplied by.
inline float weigh(const Query& query, int tile, float scale, RunningSoftmax& softmax, float* p) {
  if (!sees(query, tile)) {
    for (int j = 0; j < kPositionTile; j += kLanes) store(p + j, F{});
    return 1.0f;
  }
  I lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  const F lowest = broadcast(-__builtin_inff());
  F largest = broadcast(softmax.largest);
  F scores[kPositionTile / kLanes];
  for (int j = 0; j < kPositionTile; j += kLanes) {
    const I position = lane + (tile + j);
    const I seen = (I)(position >= query.begin) & (I)(position < query.end);
    const F score = (F)(((I)(load(p + j) * broadcast(scale)) & seen) | ((I)lowest & ~seen));
    scores[j / kLanes] = score;
    largest = max(score, largest);
  }
  const float tile_largest = largest_lane(largest);
  F total{};
  for (int j = 0; j < kPositionTile; j += kLanes) {
    const F weight = exp(scores[j / kLanes] - broadcast(tile_largest));
    store(p + j, weight);
    total += weight;
  }
  float decay = 1.0f;
  if (tile_largest != softmax.largest) {
    decay = exp(broadcast(softmax.largest - tile_largest))[0];
    softmax.largest = tile_largest;
  }
  softmax.denominator = softmax.denominator * broadcast(decay) + total;
  return decay;
}

inline void lanes_attention(const PagedKeys& keys, const Query* queries, int n_queries, float scale,
                            void* scratch) {
  LaneAttentionArea area;
  const int key_width = lane_key_width(keys);
  take_lane_area(static_cast<float*>(scratch), key_width, keys.value_width, area);
  const int value_width = static_cast<int>(lane_value_width(keys.value_width));
  const auto out_stride = static_cast<std::size_t>(value_width);
  const LaneMatrix key_matrix = {area.keys, key_width, kPositionTile};
  const LaneMatrix value_matrix = {area.values, kPositionTile, value_width};

  RunningSoftmax softmax[kMaxQueries];
  int first = queries[0].begin;
  int end = queries[0].end;
  for (int i = 0; i < n_queries; ++i) {
    if (queries[i].begin < first) first = queries[i].begin;
    if (queries[i].end > end) end = queries[i].end;
    float* out = area.out + skip(i, out_stride);
    for (int at = 0; at < value_width; at += kLanes) store(out + at, F{});
    float* column =
        area.queries + skip(i / kLaneQueries * kLaneQueries, skip(key_width, 1)) + i % kLaneQueries;
    for (int at = 0; at < key_width; ++at) column[skip(at, kLaneQueries)] = queries[i].q[at];
  }

  for (int tile = first / kPositionTile * kPositionTile; tile < end; tile += kPositionTile) {
    float* part = area.keys;
    for (int i = 0; i < keys.key_parts; part += skip(keys.key_width[i], kPositionTile), ++i) {
      widen_keys(keys, i, tile, first, end, part);
    }
    widen_values(keys, tile, first, end, area.values);
    for (int q = 0; q < n_queries; q += kLaneQueries) {
      const int n = n_queries - q < kLaneQueries ? n_queries - q : kLaneQueries;
      bool seen = false;
      for (int r = 0; r < n; ++r) seen = seen || sees(queries[q + r], tile);
      if (!seen) continue;
      add_all_products<1, kLaneQueries>(n, area.queries + skip(q, skip(key_width, 1)), key_matrix,
                                        nullptr, area.weights);
      float decay[kLaneQueries];
      for (int r = 0; r < n; ++r) {
        decay[r] = weigh(queries[q + r], tile, scale, softmax[q + r],
                         area.weights + skip(r, kPositionTile));
      }
      add_all_products<kPositionTile, 1>(n, area.weights, value_matrix, decay,
                                         area.out + skip(q, out_stride));
    }
  }

  for (int i = 0; i < n_queries; ++i) {
    const F inverse = broadcast(1.0f / sum(softmax[i].denominator));
    const float* from = area.out + skip(i, out_stride);
    for (int at = 0; at < keys.value_width; at += kLanes) {
      const int n = keys.value_width - at < kLanes ? keys.value_width - at : kLanes;
      const F value = load(from + at) * inverse;
      if (n == kLanes) {
        store(queries[i].out + at, value);
      } else {
        store_some(queries[i].out + at, value, n);
      }
    }
  }
}

}  // namespace
}  // namespace moeopt::cpu::fast
