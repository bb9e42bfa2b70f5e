// Which compiled kernel runs a layer, and with which tile sizes. Owned here: the choice, as a pure
// function of the shape; nothing is tuned at run time. No CUDA header. Invariant: the choice moves
// speed, never bits: the order of every sum depends on (H, I, dtype) alone.
#pragma once

#include <cstdint>
#include <string>

namespace moeopt::cuda::moe {

enum class Dtype : std::uint8_t { kBf16, kFp8 };

// A layer, checked (describe.h) and with its defaults filled in.
struct Shape {
  int hidden = 0;
  int intermediate = 0;
  int experts = 0;
  int top_k = 0;
  int slots = 0;
  int max_tokens = 0;
  Dtype dtype = Dtype::kBf16;
  int score = 0;  // moeopt_score
  int groups = 1;
  int top_k_groups = 1;
  int group_score = 0;  // moeopt_group_score
  bool renormalise = false;
  float renormalise_epsilon = 0;
  float scale = 1;
  int shared_intermediate = 0;
  bool shared_gate = false;
  int tile_tokens = 0;  // 0: chosen here

  int element_bytes() const { return dtype == Dtype::kBf16 ? 2 : 1; }
  bool shared() const { return shared_intermediate > 0; }
  // Rows of y per token: one a slot, and the shared expert's.
  int y_rows() const { return top_k + (shared() ? 1 : 0); }
};

// A compiled kernel: how many 64-row weight tiles a consumer warpgroup multiplies, and the largest
// number of tokens a task holds.
struct Variant {
  Dtype dtype;
  int m_tiles;       // 1 or 2; two warpgroups: a task covers 128 * m_tiles rows of weights
  int n_max;         // 8, 32, 64 or 128
  int second_tiles;  // 128-row tiles of a task of the second GEMM

  bool operator==(const Variant&) const = default;
};

inline constexpr int kFewTokens = 8;  // of a launch: the tile of 8 tokens

struct Config {
  Variant variant;
  int gate_tokens;      // tokens of a gate task: 8 or 32; of a wide one 16, 32 or 64
  int gate_rows;        // router rows of a gate task: 2 .. 16; of a wide one (images) 64 or 128
  bool local_lists;     // each block sorts all (token, slot) entries for itself
  bool gathers;         // with images: x, too, from the second weight unit on (Launch::gathers)
  int combine_columns;  // of a token that a combination adds up
  // h lies in stage images (layout.h).
  bool images() const { return variant.n_max >= 128; }
  // The tile of few tokens: each block repeats the top-k of all tokens as well, and h and y go from
  // block to block as words (ptx.cuh).
  bool few() const { return variant.n_max <= kFewTokens; }
  std::string name() const;  // "bf16 m128 n32"; "m256/128": 128 rows in the second GEMM
};

inline constexpr int kGateRows = 16;
inline constexpr int kLocalEntries = 512;    // tokens * k at most, with local_lists
inline constexpr int kProducerEntries = 32;  // given, a lane each: the producer makes those lists

Config choose_config(const Shape& shape);

}  // namespace moeopt::cuda::moe
