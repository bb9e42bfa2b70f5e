#include "cuda/moe/capacity.h"

#include <gtest/gtest.h>

#include "cuda/moe/workspace.h"

namespace moeopt::cuda::moe {
namespace {

Shape layer(int hidden, int intermediate, int experts, int top_k, Dtype dtype, int max_tokens) {
  Shape shape;
  shape.hidden = hidden;
  shape.intermediate = intermediate;
  shape.experts = shape.slots = experts;
  shape.top_k = top_k;
  shape.dtype = dtype;
  shape.max_tokens = max_tokens;
  return shape;
}

std::uint64_t bytes_of(Shape shape, int tokens) {
  shape.max_tokens = tokens;
  return workspace_layout(shape, choose_config(shape)).bytes;
}

TEST(TokensWithin, IsTheMostThatKeepsTheBound) {
  for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp8}) {
    for (const Shape& shape :
         {layer(2048, 768, 128, 8, dtype, 16384), layer(4096, 14336, 8, 2, dtype, 8192),
          layer(256, 128, 4, 1, dtype, 1000), layer(2048, 768, 128, 8, dtype, 48)}) {
      const std::uint64_t all = bytes_of(shape, shape.max_tokens);
      EXPECT_EQ(tokens_within(shape, all), shape.max_tokens);
      for (const double share : {0.999, 0.7, 0.3, 0.1, 0.02}) {
        const auto bound = static_cast<std::uint64_t>(share * static_cast<double>(all));
        const int tokens = tokens_within(shape, bound);
        if (tokens == 0) {
          EXPECT_GT(bytes_of(shape, 1), bound);
          continue;
        }
        EXPECT_LT(tokens, shape.max_tokens);
        EXPECT_LE(bytes_of(shape, tokens), bound);
        const int next = tokens < 128 ? 2 * tokens : tokens + 128;
        EXPECT_TRUE(tokens < 128 || tokens % 128 == 0) << tokens;
        EXPECT_TRUE(next >= shape.max_tokens || bytes_of(shape, next) > bound) << tokens;
      }
    }
  }
}

TEST(TokensWithin, NothingFitsNothing) {
  EXPECT_EQ(tokens_within(layer(2048, 768, 128, 8, Dtype::kBf16, 16384), 0), 0);
}

// T * k * (2 * H + I) * 2 bytes and 64 MB hold a launch of T tokens.
TEST(TokensWithin, AWorkspaceIsNoMoreThanItsRowsAnd64MB) {
  for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp8}) {
    for (const Shape& shape :
         {layer(2048, 768, 128, 8, dtype, 16384), layer(4096, 14336, 8, 2, dtype, 16384),
          layer(7168, 2048, 32, 8, dtype, 16384)}) {
      const auto tokens = static_cast<std::uint64_t>(shape.max_tokens);
      const auto row = static_cast<std::uint64_t>(2 * shape.hidden + shape.intermediate) * 2;
      EXPECT_LE(bytes_of(shape, shape.max_tokens),
                tokens * static_cast<std::uint64_t>(shape.top_k) * row + (64u << 20));
    }
  }
}

}  // namespace
}  // namespace moeopt::cuda::moe
