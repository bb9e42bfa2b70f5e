#include "cuda/moe/capacity.h"

#include "cuda/moe/workspace.h"

namespace moeopt::cuda::moe {

int tokens_within(const Shape& shape, std::uint64_t bytes) {
  constexpr int kTile = 128;
  const auto fits = [&](int tokens) {
    Shape cut = shape;
    cut.max_tokens = tokens;
    return workspace_layout(cut, choose_config(cut)).bytes <= bytes;
  };
  if (fits(shape.max_tokens)) return shape.max_tokens;
  int tokens = (shape.max_tokens - 1) / kTile * kTile;
  while (tokens > 0 && !fits(tokens)) tokens -= kTile;
  if (tokens > 0) return tokens;
  tokens = kTile / 2;
  while (tokens > 0 && (tokens >= shape.max_tokens || !fits(tokens))) tokens /= 2;
  return tokens;
}

}  // namespace moeopt::cuda::moe
