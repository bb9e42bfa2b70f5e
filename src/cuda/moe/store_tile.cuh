// The stores of the tiles with images (Tile::kImages): a warpgroup turns its sums, token by token,
// into whole lines: 64 tokens x 128 bytes at a time through shared memory. Owned here: the staging
// area's use. Invariant: a warpgroup writes its staging area only behind a barrier that follows its
// last read.
#pragma once

#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

inline constexpr int kStagedTokens = 64;

// Of the 128 threads of a warpgroup.
__device__ inline void warpgroup_barrier(int group) {
  named_barrier(kWarpgroupBarrier + group, 128);
}

// kGroups groups of 8 tokens, two columns of 8: fragment g of `low` and `high` holds column lane /
// 4, tokens 8 g + 2 (lane % 4) and the next. To rows of 128 bytes in the 128-byte swizzle, at
// 16-byte chunks chunk_low and chunk_high.
template <int kGroups>
__device__ void stage_columns(std::uint32_t staging, const std::uint32_t (&low)[kGroups],
                              const std::uint32_t (&high)[kGroups], int chunk_low, int chunk_high,
                              int lane) {
  const int token = lane % 8;
  const int chunk = (lane & 8) != 0 ? chunk_high : chunk_low;
  const std::uint32_t at = staging + (lane / 16 * 8 + token) * kBlockBytes + (chunk ^ token) * 16;
  if constexpr (kGroups == 1) {
    store_transposed(staging + token * kBlockBytes + (chunk ^ token) * 16, low[0], high[0]);
  } else {
#pragma unroll
    for (int g = 0; g < kGroups; g += 2) {
      store_transposed(at + g * 8 * kBlockBytes, low[g], high[g], low[g + 1], high[g + 1]);
    }
  }
}

// Bytes of staged rows, as they lie, to `to`: by `threads` threads, of which this is `thread`.
__device__ inline void copy_image(std::uint32_t staging, std::byte* to, int rows, int thread,
                                  int threads) {
  const int chunks = rows * (kBlockBytes / 16);
#pragma unroll 4
  for (int i = thread; i < chunks; i += threads) {
    *reinterpret_cast<uint4*>(to + i * 16) = load_shared_16(staging + i * 16);
  }
}

}  // namespace moeopt::cuda::moe
