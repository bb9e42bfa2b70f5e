#include "tensor/shape.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace moeopt {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

TEST(CheckedMultiply, KnowsWhenItWraps) {
  EXPECT_EQ(checked_multiply(3, 5), 15u);
  EXPECT_EQ(checked_multiply(0, kMax), 0u);
  EXPECT_EQ(checked_multiply(1, kMax), kMax);
  EXPECT_EQ(checked_multiply(2, kMax), std::nullopt);
  EXPECT_EQ(checked_multiply(std::uint64_t{1} << 32, std::uint64_t{1} << 32), std::nullopt);
  EXPECT_EQ(checked_multiply(0xffffffffu, 0x100000001u), kMax);
}

TEST(Shape, KnowsItsExtents) {
  const Shape shape{2, 3, 5};
  EXPECT_EQ(shape.rank(), 3u);
  EXPECT_EQ(shape[0], 2);
  EXPECT_EQ(shape[2], 5);
  EXPECT_EQ(shape.elements(), 30);
  EXPECT_EQ(shape.text(), "[2, 3, 5]");
}

TEST(Shape, RankZeroIsOneElement) {
  const Shape scalar;
  EXPECT_EQ(scalar.rank(), 0u);
  EXPECT_EQ(scalar.elements(), 1);
  EXPECT_EQ(scalar.text(), "[]");
  EXPECT_EQ((Shape{4, 0, 7}).elements(), 0);
}

TEST(Shape, ProductsThatWrapAreSeen) {
  constexpr std::int64_t kHalf = std::int64_t{1} << 32;
  EXPECT_EQ((Shape{kHalf, kHalf}).checked_elements(), std::nullopt);
  EXPECT_EQ((Shape{kHalf, kHalf, 0}).checked_elements(), std::nullopt);
  EXPECT_EQ((Shape{kHalf, kHalf / 2}).checked_elements(), std::uint64_t{1} << 63);
}

TEST(Shape, ComparesRankAndExtents) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_NE((Shape{2}), (Shape{2, 0}));
  EXPECT_NE(Shape(), (Shape{0}));
  const std::vector<std::int64_t> extents = {2, 3};
  EXPECT_EQ(Shape(std::span<const std::int64_t>(extents)), (Shape{2, 3}));
}

TEST(ShapeDeathTest, MisuseIsAProgrammersMistake) {
  const std::array<std::int64_t, 9> nine{};
  EXPECT_DEATH(Shape(std::span<const std::int64_t>(nine)), "9 <= 8");
  const Shape matrix{2, 3};
  EXPECT_DEATH(matrix[2], "2 < 2");
  const Shape wraps{std::int64_t{1} << 62, 4};
  EXPECT_DEATH(wraps.elements(), "check failed");
}

}  // namespace
}  // namespace moeopt
