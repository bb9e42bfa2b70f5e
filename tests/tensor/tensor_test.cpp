#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/error.h"

namespace moeopt {
namespace {

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

TEST(Buffer, IsAlignedAndZero) {
  for (const std::size_t size_bytes : {std::size_t{1}, std::size_t{4097}, std::size_t{5} << 20}) {
    const Buffer buffer(size_bytes);
    EXPECT_EQ(buffer.size_bytes(), size_bytes);
    EXPECT_EQ(buffer.bytes().size(), size_bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.bytes().data()) % Buffer::kAlignment, 0u);
    EXPECT_TRUE(all_zero(buffer.bytes()));
  }
}

TEST(Buffer, MayBeEmpty) {
  const Buffer none;
  const Buffer zero(0);
  EXPECT_TRUE(none.bytes().empty());
  EXPECT_TRUE(zero.bytes().empty());
}

TEST(Buffer, IsWrittenThroughTypedSpans) {
  Buffer buffer(10);
  ASSERT_EQ(buffer.as<float>().size(), 2u);  // whole elements alone
  buffer.as<float>()[1] = 2.5f;
  EXPECT_EQ(std::as_const(buffer).as<float>()[1], 2.5f);
  EXPECT_FALSE(all_zero(buffer.bytes()));
}

TEST(Buffer, Moves) {
  Buffer first(8);
  first.as<double>()[0] = 1.5;
  const std::byte* data = first.bytes().data();
  Buffer second(std::move(first));
  EXPECT_EQ(second.bytes().data(), data);
  EXPECT_EQ(first.size_bytes(), 0u);  // NOLINT(bugprone-use-after-move)
  Buffer third(16);
  third = std::move(second);
  EXPECT_EQ(third.bytes().data(), data);
  EXPECT_EQ(third.as<double>()[0], 1.5);
}

TEST(Buffer, SaysWhenThereIsNoMemory) {
  try {
    const Buffer buffer(std::size_t{1} << 62);
    FAIL() << "got 4 EiB";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDoesNotFit);
    EXPECT_NE(std::string(error.what()).find("4096 PiB"), std::string::npos) << error.what();
  }
}

TEST(TensorView, CountsBytesAndKnowsItsAlignment) {
  alignas(8) const std::array<std::byte, 16> bytes{};
  const TensorView view{DType::kBF16, {2, 3}, bytes.data()};
  EXPECT_EQ(view.size_bytes(), 12u);
  EXPECT_EQ(view.bytes().size(), 12u);
  EXPECT_TRUE(view.is_aligned(8));
  const TensorView shifted{DType::kBF16, {2, 3}, bytes.data() + 2};
  EXPECT_TRUE(shifted.is_aligned(2));
  EXPECT_FALSE(shifted.is_aligned(4));
}

}  // namespace
}  // namespace moeopt
