// How many tokens a launch may have where its workspace is bounded. No CUDA header.
// Invariant: the answer's workspace, as workspace.h lays it out, keeps the bound.
#pragma once

#include <cstdint>

#include "cuda/moe/config.h"

namespace moeopt::cuda::moe {

// The most tokens, up to shape.max_tokens, whose workspace takes at most `bytes`: whole tiles of
// 128 where it is not all, powers of two below that; 0: not even one token's does.
int tokens_within(const Shape& shape, std::uint64_t bytes);

}  // namespace moeopt::cuda::moe
