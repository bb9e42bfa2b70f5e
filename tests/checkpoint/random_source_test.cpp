#include "checkpoint/random_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/fp8_blocks.h"

namespace moeopt {
namespace {

TensorInfo info(std::string name, DType dtype, Shape shape) {
  return {.name = std::move(name), .dtype = dtype, .shape = shape, .size_bytes = 0, .file = {}};
}

template <typename T>
std::vector<double> values(const TensorView& view) {
  std::vector<double> out;
  const auto* first = reinterpret_cast<const T*>(view.data);
  for (std::int64_t i = 0; i < view.shape.elements(); ++i) {
    out.push_back(static_cast<double>(to_float(first[i])));
  }
  return out;
}

struct Moments {
  double mean;
  double std;
  double kurtosis;
};

Moments moments(const std::vector<double>& xs) {
  const auto n = static_cast<double>(xs.size());
  double mean = 0;
  for (const double x : xs) mean += x / n;
  double second = 0;
  double fourth = 0;
  for (const double x : xs) {
    second += std::pow(x - mean, 2) / n;
    fourth += std::pow(x - mean, 4) / n;
  }
  return {mean, std::sqrt(second), fourth / (second * second)};
}

std::string bytes(const TensorView& view) {
  return {reinterpret_cast<const char*>(view.data), view.size_bytes()};
}

TEST(RandomSource, MatricesKeepActivationsAtUnitScale) {
  const RandomSource source(
      {info("bf16", DType::kBF16, {300, 400}), info("f16", DType::kF16, {300, 400}),
       info("f32", DType::kF32, {3, 100, 400}), info("fp8", DType::kF8E4M3, {300, 400})},
      1);
  for (const auto& xs : {values<Bf16>(source.view("bf16")), values<F16>(source.view("f16")),
                         values<float>(source.view("f32")), values<F8E4M3>(source.view("fp8"))}) {
    const Moments m = moments(xs);
    EXPECT_NEAR(m.mean, 0.0, 0.001);
    EXPECT_NEAR(m.std, 0.05, 0.001);     // 1 / sqrt(400)
    EXPECT_NEAR(m.kurtosis, 2.7, 0.05);  // of four uniforms: 3 - 1.2 / 4
  }
}

TEST(RandomSource, VectorsAreNormsOrBiases) {
  const RandomSource source({info("model.norm.weight", DType::kF32, {10'000}),
                             info("q_proj.bias", DType::kF32, {10'000})},
                            1);
  const Moments norm = moments(values<float>(source.view("model.norm.weight")));
  EXPECT_NEAR(norm.mean, 1.0, 0.01);
  EXPECT_NEAR(norm.std, 0.1, 0.01);
  const Moments bias = moments(values<float>(source.view("q_proj.bias")));
  EXPECT_NEAR(bias.mean, 0.0, 0.001);
  EXPECT_NEAR(bias.std, 0.02, 0.001);
}

TEST(RandomSource, Fp8WeightsAndScalesMultiplyToUnitScale) {
  const RandomSource source(
      {info("w", DType::kF8E4M3, {300, 400}), info("w_scale_inv", DType::kF32, {3, 4})}, 1);
  const Moments codes = moments(values<F8E4M3>(source.view("w")));
  EXPECT_NEAR(codes.std, 100.0, 2.0);
  const Fp8BlockWeight weight = view_fp8_blocks(source, "w");
  std::vector<double> all;
  std::vector<float> row(400);
  for (std::int64_t r = 0; r < 300; ++r) {
    dequantize_row(weight, r, row);
    all.insert(all.end(), row.begin(), row.end());
  }
  const Moments m = moments(all);
  EXPECT_NEAR(m.mean, 0.0, 0.001);
  EXPECT_NEAR(m.std, 0.05, 0.015);
  const auto scales = values<float>(source.view("w_scale_inv"));
  EXPECT_LT(*std::min_element(scales.begin(), scales.end()),
            *std::max_element(scales.begin(), scales.end()));
}

TEST(RandomSource, IntegersAreZero) {
  const RandomSource source({info("ids", DType::kI64, {3}), info("mask", DType::kBool, {5})}, 1);
  EXPECT_EQ(bytes(source.view("ids")), std::string(24, '\0'));
  EXPECT_EQ(bytes(source.view("mask")), std::string(5, '\0'));
}

TEST(RandomSource, BytesDependOnSeedAndNameAlone) {
  const TensorInfo a = info("a", DType::kBF16, {8, 8});
  const TensorInfo b = info("b", DType::kBF16, {8, 8});
  const RandomSource alone({a}, 7);
  const RandomSource both({b, a}, 7);
  const RandomSource reseeded({a}, 8);
  const std::string other = bytes(both.view("b"));
  EXPECT_EQ(bytes(alone.view("a")), bytes(both.view("a")));
  EXPECT_NE(bytes(alone.view("a")), other);
  EXPECT_NE(bytes(alone.view("a")), bytes(reseeded.view("a")));
  // Pinned: another machine or compiler must make the same numbers.
  const auto first =
      values<float>(RandomSource({info("pin", DType::kF32, {1, 4})}, 42).view("pin"));
  EXPECT_THAT(first,
              testing::ElementsAre(-0.0881803557f, -0.110235356f, 0.199406803f, 0.0161349047f));
}

TEST(RandomSource, AReleasedTensorComesBackTheSame) {
  const RandomSource source({info("a", DType::kF32, {64, 64})}, 7);
  const std::string before = bytes(source.view("a"));
  source.release("a");
  source.release("absent");
  EXPECT_EQ(bytes(source.view("a")), before);
}

TEST(RandomSource, ListsAndDescribes) {
  const RandomSource source({info("b", DType::kF32, {2}), info("a", DType::kBF16, {3})}, 7);
  ASSERT_EQ(source.list().size(), 2u);
  EXPECT_EQ(source.list()[0]->name, "a");
  EXPECT_EQ(source.find("a")->size_bytes, 6u);
  EXPECT_EQ(source.find("c"), nullptr);
  EXPECT_EQ(source.describe(), "random tensors (seed 7), 14 B");
  EXPECT_THROW(source.view("c"), Error);
}

TEST(RandomSource, RefusesWhatCannotBe) {
  EXPECT_THROW(RandomSource({info("a", DType::kF32, {2}), info("a", DType::kF32, {2})}, 1), Error);
  EXPECT_THROW(RandomSource({info("a", DType::kF32, {std::int64_t{1} << 62})}, 1), Error);
}

}  // namespace
}  // namespace moeopt
