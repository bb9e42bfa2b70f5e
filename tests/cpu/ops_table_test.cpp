// One table of op tests for every CpuOps of this machine, against float64 written out here.
// Each op is also held to its invariant: a row's bits are the same alone and among others.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "cpu/ops_under_test.h"
#include "cpu/tensor_data_util.h"

namespace moeopt::cpu {
namespace {

using Doubles = std::vector<double>;

class OpsTable : public testing::TestWithParam<OpsUnderTest> {
 protected:
  OpsTable() : ops_(GetParam().make()), scratch_(32 << 20) { ops_->set_scratch(scratch_.bytes()); }

  // An input as a product with `w` reads it.
  double input(double x, const StoredMatrix& w) const {
    return GetParam().rounds_inputs && w.matrix.weight.dtype != DType::kF32 ? to_bf16_value(x) : x;
  }

  Doubles linear(std::span<const float> x, const StoredMatrix& w,
                 std::span<const float> bias) const {
    Doubles out;
    for (std::size_t row = 0; row < x.size(); row += static_cast<std::size_t>(w.in)) {
      for (int o = 0; o < w.out; ++o) {
        double sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(o)];
        for (int k = 0; k < w.in; ++k)
          sum += w.at(o, k) * input(x[row + static_cast<std::size_t>(k)], w);
        out.push_back(sum);
      }
    }
    return out;
  }

  Rng rng_{1};
  std::unique_ptr<CpuOps> ops_;
  Buffer scratch_;
};

struct LinearCase {
  DType dtype;
  int out, in, rows;
};

const LinearCase kLinearCases[] = {
    {DType::kF32, 13, 44, 3},
    {DType::kF32, 131, 45, 20},
    {DType::kF32, 64, 256, 1},
    {DType::kBF16, 13, 44, 3},
    {DType::kBF16, 131, 45, 20},
    {DType::kBF16, 64, 256, 1},
    {DType::kBF16, 33, 1, 2},
    {DType::kBF16, 1, 300, 5},
    {DType::kBF16, 96, 512, 70},
    {DType::kF16, 40, 77, 4},
    {DType::kF8E4M3, 128, 128, 1},
    {DType::kF8E4M3, 200, 300, 7},
    {DType::kF8E4M3, 20, 44, 18},
    {DType::kF8E4M3, 384, 512, 40},
    // Rows and inputs for more than one block of each.
    {DType::kF32, 9, 2100, 13},
    {DType::kBF16, 40, 1100, 14},
    {DType::kF8E4M3, 33, 1100, 15},
};

TEST_P(OpsTable, Linear) {
  for (const LinearCase& c : kLinearCases) {
    for (const bool with_bias : {false, true}) {
      SCOPED_TRACE(testing::Message() << dtype_name(c.dtype) << " " << c.out << "x" << c.in
                                      << " rows " << c.rows << " bias " << with_bias);
      const StoredMatrix w =
          random_matrix(rng_, c.dtype, c.out, c.in, 0.1, 3 * dtype_bytes(c.dtype));
      const auto x = random_rows(rng_, static_cast<std::size_t>(c.rows * c.in));
      const auto bias = random_rows(rng_, with_bias ? static_cast<std::size_t>(c.out) : 0);
      std::vector<float> out(static_cast<std::size_t>(c.rows * c.out), NAN);
      ops_->linear(x.data(), c.rows, w.matrix, bias, out.data());
      EXPECT_LE(frobenius_error(out, linear(x, w, bias)), GetParam().tolerance);

      for (int row = 0; row < c.rows; ++row) {
        std::vector<float> alone(static_cast<std::size_t>(c.out), NAN);
        ops_->linear(x.data() + row * c.in, 1, w.matrix, bias, alone.data());
        ASSERT_EQ(std::memcmp(alone.data(), out.data() + row * c.out, alone.size() * sizeof(float)),
                  0)
            << "row " << row;
      }
    }
  }
}

TEST_P(OpsTable, LinearOfNanStaysInItsRow) {
  const StoredMatrix w = random_matrix(rng_, DType::kBF16, 40, 64, 0.1);
  auto x = random_rows(rng_, 3 * 64);
  x[64 + 5] = NAN;
  std::vector<float> out(3 * 40);
  ops_->linear(x.data(), 3, w.matrix, {}, out.data());
  for (std::size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i / 40 == 1) << i;
}

TEST_P(OpsTable, Embed) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const StoredMatrix table = random_matrix(rng_, dtype, 50, 33, 1, dtype_bytes(dtype));
    const std::vector<std::int32_t> ids = {49, 0, 7, 7, 12};
    std::vector<float> out(ids.size() * 33, NAN);
    ops_->embed(table.matrix, ids, out.data());
    for (std::size_t i = 0; i < out.size(); ++i) {
      EXPECT_EQ(out[i], table.at(ids[i / 33], static_cast<int>(i % 33)));
    }
  }
}

TEST_P(OpsTable, RmsNorm) {
  for (const int width : {5, 64, 333}) {
    for (const double epsilon : {1e-6, 0.5}) {
      const int rows = 9;
      const auto x = random_rows(rng_, static_cast<std::size_t>(rows * width), 3);
      const auto weight = random_rows(rng_, static_cast<std::size_t>(width));
      Doubles wanted;
      for (int r = 0; r < rows; ++r) {
        double squares = 0;
        for (int i = 0; i < width; ++i)
          squares += std::pow(x[static_cast<std::size_t>(r * width + i)], 2);
        for (int i = 0; i < width; ++i) {
          wanted.push_back(x[static_cast<std::size_t>(r * width + i)] /
                           std::sqrt(squares / width + epsilon) *
                           weight[static_cast<std::size_t>(i)]);
        }
      }
      std::vector<float> out(x.size(), NAN);
      ops_->rms_norm(x.data(), rows, weight, epsilon, out.data());
      EXPECT_LE(frobenius_error(out, wanted), 1e-6) << width;
      auto in_place = x;
      ops_->rms_norm(in_place.data(), rows, weight, epsilon, in_place.data());
      EXPECT_EQ(in_place, out);
      std::vector<float> alone(static_cast<std::size_t>(width));
      ops_->rms_norm(x.data() + 4 * width, 1, weight, epsilon, alone.data());
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), out.begin() + 4 * width));
    }
  }
}

TEST_P(OpsTable, Add) {
  for (const std::size_t n : {1u, 333u, 16384u, 50'001u}) {  // one part, several, a last short one
    const auto x = random_rows(rng_, n);
    const auto before = random_rows(rng_, n);
    auto got = before;
    ops_->add(x.data(), n, got.data());
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(got[i], before[i] + x[i]) << i << " of " << n;
  }
}

TEST_P(OpsTable, Rope) {
  for (const bool interleaved : {false, true}) {
    RopeSpec rope;
    rope.interleaved = interleaved;
    rope.magnitude = 1.25;
    const int pairs = 5, heads = 3, head = 16, first = 4;  // the rotated part lies inside a head
    for (int i = 0; i < pairs; ++i) rope.inverse_frequencies.push_back(std::pow(100.0, -i / 5.0));
    const std::vector<std::int32_t> positions = {0, 1, 17, 5000};
    const int row_stride = heads * head + 2;
    const auto x = random_rows(rng_, positions.size() * static_cast<std::size_t>(row_stride));
    Doubles wanted(x.begin(), x.end());
    for (std::size_t r = 0; r < positions.size(); ++r) {
      for (int h = 0; h < heads; ++h) {
        for (int i = 0; i < pairs; ++i) {
          const std::size_t start =
              r * static_cast<std::size_t>(row_stride) + static_cast<std::size_t>(h * head + first);
          const std::size_t a = start + static_cast<std::size_t>(interleaved ? 2 * i : i);
          const std::size_t b =
              start + static_cast<std::size_t>(interleaved ? 2 * i + 1 : i + pairs);
          const double angle = positions[r] * rope.inverse_frequencies[static_cast<std::size_t>(i)];
          wanted[a] = 1.25 * (x[a] * std::cos(angle) - x[b] * std::sin(angle));
          wanted[b] = 1.25 * (x[a] * std::sin(angle) + x[b] * std::cos(angle));
        }
      }
    }
    auto got = x;
    ops_->rope(got.data() + first, 4, heads, head, row_stride, rope, positions);
    EXPECT_LE(frobenius_error(got, wanted), 1e-6);
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (wanted[i] == x[i]) {
        EXPECT_EQ(got[i], x[i]) << "not its to rotate: " << i;
      }
    }
  }
}

TEST_P(OpsTable, Swiglu) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const int hidden = 200, intermediate = 150, rows = 11;
    SCOPED_TRACE(dtype_name(dtype));
    const StoredMatrix gate = random_matrix(rng_, dtype, intermediate, hidden, 0.1);
    const StoredMatrix up = random_matrix(rng_, dtype, intermediate, hidden, 0.1);
    const StoredMatrix down = random_matrix(rng_, dtype, hidden, intermediate, 0.1);
    const auto x = random_rows(rng_, rows * hidden);
    const Doubles g = linear(x, gate, {});
    const Doubles u = linear(x, up, {});
    Doubles wanted;
    for (int r = 0; r < rows; ++r) {
      for (int o = 0; o < hidden; ++o) {
        double sum = 0;
        for (int i = 0; i < intermediate; ++i) {
          const auto at = static_cast<std::size_t>(r * intermediate + i);
          sum += down.at(o, i) * input(g[at] / (1 + std::exp(-g[at])) * u[at], down);
        }
        wanted.push_back(sum);
      }
    }
    std::vector<float> out(wanted.size(), NAN);
    const SwigluWeights w = {gate.matrix, up.matrix, down.matrix};
    ops_->swiglu(x.data(), rows, w, out.data());
    // An h next to a rounding boundary may fall either way: a few per mille of the entries.
    const double tolerance = GetParam().rounds_inputs ? 3e-4 : 2e-6;
    EXPECT_LE(frobenius_error(out, wanted), tolerance);
    std::vector<float> alone(hidden);
    ops_->swiglu(x.data() + 7 * hidden, 1, w, alone.data());
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), out.begin() + 7 * hidden));
  }
}

INSTANTIATE_TEST_SUITE_P(All, OpsTable, testing::ValuesIn(ops_under_test()),
                         [](const auto& ops) { return name_of(ops.param); });

}  // namespace
}  // namespace moeopt::cpu
