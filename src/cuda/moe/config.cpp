#include "cuda/moe/config.h"

#include <algorithm>

#include "cuda/moe/schedule.h"

namespace moeopt::cuda::moe {

std::string Config::name() const {
  return std::string(variant.dtype == Dtype::kBf16 ? "bf16" : "fp8") + " m" +
         std::to_string(kTileRows * variant.m_tiles) +
         (variant.second_tiles < variant.m_tiles
              ? "/" + std::to_string(kTileRows * variant.second_tiles)
              : "") +
         " n" + std::to_string(variant.n_max) +
         (few()         ? " words"
          : local_lists ? " local-lists"
                        : "");
}

namespace {

constexpr int kMultiprocessors = 132;

// Whether the second GEMM has so few tasks of two tiles, with so long a K, that tasks of one pay:
// fewer than multiprocessors, each of which would have one or none.
bool halves_second(const Shape& shape) {
  constexpr int kLongBlocks = 64;  // of K
  if (shape.intermediate < kLongBlocks * kBlockBytes) return false;
  const std::int64_t experts =
      std::min(std::int64_t{shape.slots}, std::int64_t{1} * shape.max_tokens * shape.top_k) +
      (shape.shared() ? 1 : 0);
  return experts * ceil_div(shape.hidden, 2 * kTileRows) < kMultiprocessors;
}

// Wide gate tasks: as many tokens and router rows as leave most multiprocessors a task, since the
// more there are the less often x and the router come from the cache.
void choose_wide_gate(const Shape& shape, Config& config) {
  constexpr int kTasks = 90;
  const auto tasks = [&] {  // not those of the shared gate alone, which are short
    return ceil_div(shape.max_tokens, config.gate_tokens) *
           ceil_div(shape.experts, config.gate_rows);
  };
  config.gate_tokens = 64;
  config.gate_rows = shape.experts + (shape.shared_gate ? 1 : 0) > 64 ? 128 : 64;
  if (config.gate_rows == 128 && tasks() < kTasks) config.gate_rows = 64;
  while (config.gate_tokens > 16 && tasks() < kTasks) config.gate_tokens /= 2;
}

// Tokens of a task; `rows`: of an expert when all are asked for equally often.
int choose_tile(const Shape& shape, double rows) {
  // Who multiplies h reads it as words, and in fp8 quantises it: with more rows than one or two
  // that takes longer than the weights.
  const bool fp8 = shape.dtype == Dtype::kFp8;
  const bool long_rows = fp8 && rows > 1;
  const int few = shape.shared() || long_rows ? 2 : fp8 ? kFewTokens / 2 : kFewTokens;
  if (shape.max_tokens <= few) return kFewTokens;
  // A shared expert has all tokens: the wider the tile, the less often its weights are read.
  if (shape.shared()) return rows <= 12 && shape.max_tokens <= 64 ? 32 : 128;
  return rows <= 12 ? 32 : rows <= 28 ? 64 : 128;
}

// The last combination ends a launch: as many blocks as there are share a token's columns, down to
// about eight for each thread, which are one trip to the cache.
int choose_combine_columns(const Shape& shape, const Config& config) {
  constexpr int kOneTrip = 2048;
  if (config.few()) return kCombineColumns;
  if (config.images() || shape.max_tokens > kAloneTokens) return shape.hidden;
  const int parts =
      std::clamp(kMultiprocessors / shape.max_tokens, 1, ceil_div(shape.hidden, kOneTrip));
  return ceil_div(shape.hidden, 8 * parts) * 8;
}

}  // namespace

Config choose_config(const Shape& shape) {
  const double rows = 1.0 * shape.max_tokens * shape.top_k / shape.experts;
  Config config{};
  config.variant.dtype = shape.dtype;
  config.variant.n_max = shape.tile_tokens > 0 ? shape.tile_tokens : choose_tile(shape, rows);
  const bool fp8 = shape.dtype == Dtype::kFp8;
  config.variant.m_tiles = !config.few() && (fp8 || config.variant.n_max > 32) ? 2 : 1;
  const bool halves = fp8 && config.variant.n_max == 32 && halves_second(shape);
  config.variant.second_tiles = halves ? 1 : config.variant.m_tiles;
  config.gate_tokens = shape.max_tokens <= 64 && !config.images() ? 8 : 32;
  // About one task a block while tokens are few, those that come with the gate's counted; whole mma
  // tiles of 16 rows when they are many.
  constexpr int kTasks = 120;
  const int tiles = ceil_div(shape.max_tokens, config.gate_tokens);
  const int quantised = fp8 ? shape.max_tokens : 0;
  const int others = (config.few() ? 0 : ceil_div(shape.max_tokens, kWarpTokens)) +
                     ceil_div(quantised, quantise_tokens_of(shape.max_tokens, shape.hidden));
  const int tasks = std::max(kTasks - others, kTasks / 2);
  config.gate_rows = std::clamp(ceil_div(shape.experts * tiles, tasks), 2, kGateRows);
  constexpr int kShortTasks = 512;  // up to here a task of few rows is done sooner
  if (config.images() && shape.max_tokens > kShortTasks) choose_wide_gate(shape, config);
  // Where an expert's tokens are few, the other units would wait for the first.
  config.gathers = config.images() && rows > 256;
  config.combine_columns = choose_combine_columns(shape, config);
  config.local_lists =
      config.variant.n_max <= 64 && shape.max_tokens * shape.top_k <= kLocalEntries;
  return config;
}

}  // namespace moeopt::cuda::moe
