// Softmax attention over the paged cache, one query at a time, for every instruction set but AMX.
// Included only by kernels_*.cpp, see lanes.h.
// Invariant: a query meets its positions in tiles of kPositionTile that are aligned to absolute
// positions, in order; the running maximum and sum (Milakov and Gimelshein, arXiv 1805.02867) move
// once a tile. So the result does not depend on how the sequence was cut into steps.
#pragma once

#include "cpu/fast/kernels.h"
#include "cpu/fast/lanes.h"

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

inline F dot_bf16(const float* q, const unsigned char* k, int n, F total) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) total = fma(load(q + i), load_bf16(k + skip(i, 2)), total);
  if (i < n) total = fma(load_some(q + i, n - i), load_bf16_some(k + skip(i, 2), n - i), total);
  return total;
}

// acc = acc * alpha + sum over the tile's positions of p * value
inline void add_values(const unsigned char* const* values, const float* p, int n, float alpha,
                       int width, float* acc) {
  const F decay = broadcast(alpha);
  int i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    F total = load(acc + i) * decay;
    for (int j = 0; j < n; ++j)
      total = fma(broadcast(p[j]), load_bf16(values[j] + skip(i, 2)), total);
    store(acc + i, total);
  }
  if (i == width) return;
  F total = load_some(acc + i, width - i) * decay;
  for (int j = 0; j < n; ++j) {
    total = fma(broadcast(p[j]), load_bf16_some(values[j] + skip(i, 2), width - i), total);
  }
  store_some(acc + i, total, width - i);
}

inline void attend(const PagedKeys& keys, const Query& query, float scale) {
  constexpr float kLowest = -__builtin_inff();
  float* acc = query.out;
  for (int i = 0; i < keys.value_width; ++i) acc[i] = 0.0f;
  float largest = kLowest;
  float denominator = 0.0f;
  for (int tile = query.begin / kPositionTile * kPositionTile; tile < query.end;
       tile += kPositionTile) {
    const int first = tile > query.begin ? tile : query.begin;
    const int end = tile + kPositionTile < query.end ? tile + kPositionTile : query.end;
    const int n = end - first;
    alignas(64) float p[kPositionTile];
    const unsigned char* values[kPositionTile];
    float tile_largest = largest;
    for (int j = 0; j < kPositionTile; ++j) p[j] = kLowest;
    for (int j = 0; j < n; ++j) {
      const float* q = query.q;
      F total{};
      for (int part = 0; part < keys.key_parts; ++part) {
        total = dot_bf16(q, key_at(keys, part, first + j), keys.key_width[part], total);
        q += keys.key_width[part];
      }
      p[j] = sum(total) * scale;
      if (!(p[j] <= tile_largest)) tile_largest = p[j];
      values[j] = value_at(keys, first + j);
    }
    F tile_sum{};
    for (int j = 0; j < kPositionTile; j += kLanes) {
      const F e = exp(load(p + j) - broadcast(tile_largest));
      store(p + j, e);
      tile_sum += e;
    }
    const float alpha = exp(broadcast(largest - tile_largest))[0];
    denominator = denominator * alpha + sum(tile_sum);
    add_values(values, p, n, alpha, keys.value_width, acc);
    largest = tile_largest;
  }
  const float inverse = 1.0f / denominator;
  for (int i = 0; i < keys.value_width; ++i) acc[i] *= inverse;
}

inline std::size_t lanes_attention_scratch_bytes(int /*key_width*/, int /*value_width*/) {
  return 0;
}

inline void lanes_attention(const PagedKeys& keys, const Query* queries, int n_queries, float scale,
                            void* /*scratch*/) {
  for (int i = 0; i < n_queries; ++i) attend(keys, queries[i], scale);
}

}  // namespace
}  // namespace moeopt::cpu::fast
