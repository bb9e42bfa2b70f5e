#include "checkpoint/fp8_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint_util.h"
#include "checkpoint/safetensors_source.h"

namespace moeopt {
namespace {

constexpr std::int64_t kRows = 130;     // two blocks, the second of two rows
constexpr std::int64_t kColumns = 257;  // three blocks, the third of one column

std::vector<float> six_scales() {
  return {1, 2, 3, 4, 5, 6};
}

// A [130, 257] matrix whose element (r, c) has the code (r * 7 + c) mod 120.
std::unique_ptr<TensorSource> write_and_open(const TempFolder& folder, const TestTensor& scales) {
  std::string codes;
  for (std::int64_t i = 0; i < kRows * kColumns; ++i) {
    codes += static_cast<char>((i / kColumns * 7 + i % kColumns) % 120);
  }
  folder.write("model.safetensors",
               safetensors_file({scales, {"x.weight", "F8_E4M3", {kRows, kColumns}, codes}}));
  return open_safetensors(folder.path());
}

TestTensor scale_tensor(const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
  return {"x.weight_scale_inv", "F32", shape, f32_bytes(values)};
}

std::string refusal(const TestTensor& scales, ErrorCode code) {
  const TempFolder folder;
  const auto source = write_and_open(folder, scales);
  try {
    view_fp8_blocks(*source, "x.weight");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "accepted";
}

TEST(Fp8Blocks, ShapesRoundUp) {
  EXPECT_EQ(fp8_scale_shape({128, 128}), (Shape{1, 1}));
  EXPECT_EQ(fp8_scale_shape({129, 127}), (Shape{2, 1}));
  EXPECT_EQ(fp8_scale_shape({576, 7168}), (Shape{5, 56}));
  EXPECT_EQ(fp8_scale_shape({0, 1}), (Shape{0, 1}));
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(fp8_scale_shape({kHuge, 0}), (Shape{kHuge / 128 + 1, 0}));
}

TEST(Fp8Blocks, EveryElementUsesTheScaleOfItsBlock) {
  const TempFolder folder;
  const auto source = write_and_open(folder, scale_tensor({2, 3}, six_scales()));
  const Fp8BlockWeight weight = view_fp8_blocks(*source, "x.weight");
  std::vector<float> row(kColumns);
  for (std::int64_t r = 0; r < kRows; ++r) {
    dequantize_row(weight, r, row);
    for (std::int64_t c = 0; c < kColumns; ++c) {
      const float scale =
          six_scales()[static_cast<std::size_t>((r >= 128 ? 3 : 0) + (c >= 256   ? 2
                                                                      : c >= 128 ? 1
                                                                                 : 0))];
      const F8E4M3 code{static_cast<std::uint8_t>((r * 7 + c) % 120)};
      ASSERT_EQ(row[static_cast<std::size_t>(c)], to_float(code) * scale) << r << ", " << c;
      ASSERT_EQ(weight.scale(r, c), scale) << r << ", " << c;
    }
  }
}

TEST(Fp8Blocks, RefusesScalesThatDoNotFit) {
  EXPECT_THAT(refusal(scale_tensor({3, 2}, six_scales()), ErrorCode::kInvalidData),
              testing::AllOf(testing::HasSubstr("model.safetensors"),
                             testing::HasSubstr("\"x.weight_scale_inv\""),
                             testing::HasSubstr("f32 [3, 2]"), testing::HasSubstr("f32 [2, 3]")));
  EXPECT_THAT(refusal({"x.weight_scale_inv", "BF16", {2, 3}, std::string(12, '\0')},
                      ErrorCode::kInvalidData),
              testing::HasSubstr("bf16 [2, 3]"));
  EXPECT_THAT(refusal({"x.scale", "F32", {2, 3}, std::string(24, '\0')}, ErrorCode::kNotFound),
              testing::AllOf(testing::HasSubstr("\"x.weight\""),
                             testing::HasSubstr("\"x.weight_scale_inv\"")));
}

TEST(Fp8Blocks, RefusesScalesThatAreNoScales) {
  for (const float wrong : {std::nanf(""), std::numeric_limits<float>::infinity(), -1.0f}) {
    auto scales = six_scales();
    scales[4] = wrong;
    EXPECT_THAT(refusal(scale_tensor({2, 3}, scales), ErrorCode::kInvalidData),
                testing::HasSubstr("element 4"));
  }
}

TEST(Fp8Blocks, RefusesWhatIsNotAnFp8Matrix) {
  const TempFolder folder;
  folder.write("model.safetensors", safetensors_file({{"vector", "F8_E4M3", {4}, "abcd"},
                                                      {"bf16", "BF16", {2}, "abcd"}}));
  const auto source = open_safetensors(folder.path());
  EXPECT_THROW(view_fp8_blocks(*source, "vector"), Error);
  EXPECT_THROW(view_fp8_blocks(*source, "bf16"), Error);
  EXPECT_THROW(view_fp8_blocks(*source, "absent"), Error);
}

}  // namespace
}  // namespace moeopt
