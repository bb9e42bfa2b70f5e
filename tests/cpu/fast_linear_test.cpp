// W x by every instruction set this machine has: right, and a row's bits the same in any batch.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "base/error.h"
#include "cpu/fast_util.h"

namespace moeopt::cpu {
namespace {

struct LinearCase {
  int out, in;
};

// Multiples of the tiles, tails of every kind, and more than one block of K.
constexpr LinearCase kShapes[] = {{32, 512}, {64, 1024}, {1, 32}, {16, 33},    {33, 31},
                                  {50, 77},  {129, 160}, {7, 1},  {160, 1100}, {256, 130}};
constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3};

class FastLinearTest : public testing::TestWithParam<std::string> {
 protected:
  std::vector<float> product(OwnedOps& owned, const RandomMatrix& w, const float* x, int rows,
                             std::span<const float> bias = {}) {
    std::vector<float> out(static_cast<std::size_t>(rows * w.matrix().out()), -1e30f);
    owned.ops->linear(x, rows, w.matrix(), bias, out.data());
    return out;
  }
};

TEST_P(FastLinearTest, MatchesFloat64) {
  constexpr int kRows = 21;
  for (const DType dtype : kDTypes) {
    for (const auto& [out, in] : kShapes) {
      SCOPED_TRACE(testing::Message() << dtype_name(dtype) << " " << out << "x" << in);
      const RandomMatrix w(out, in, dtype, 7);
      const std::vector<float> x = random_floats(static_cast<std::size_t>(kRows * in), 8);
      const std::vector<float> bias = random_floats(static_cast<std::size_t>(out), 9);
      OwnedOps owned = fast_ops(2, GetParam(), spec_of_width(in), kRows);
      const std::vector<float> y = product(owned, w, x.data(), kRows, bias);
      for (int r = 0; r < kRows; ++r) {
        std::vector<double> expected = exact_product(w, x.data() + r * in);
        double largest = 0;
        for (std::size_t f = 0; f < expected.size(); ++f) {
          expected[f] += bias[f];
          largest = std::max(largest, std::fabs(expected[f]));
        }
        for (int f = 0; f < out; ++f) {
          ASSERT_NEAR(y[static_cast<std::size_t>(r * out + f)],
                      expected[static_cast<std::size_t>(f)], 2e-5 * (1 + largest))
              << "row " << r << " feature " << f;
        }
      }
    }
  }
}

TEST_P(FastLinearTest, RowsAreTheSameInAnyBatch) {
  constexpr int kRows = 512;
  for (const DType dtype : kDTypes) {
    for (const auto& [out, in] : {LinearCase{48, 300}, LinearCase{33, 50}, LinearCase{32, 352}}) {
      const std::vector<float> x = random_floats(static_cast<std::size_t>(kRows * in), 18);
      OwnedOps owned = fast_ops(1, GetParam(), spec_of_width(in), kRows);
      for (const std::size_t into_line : {8, 0, 4, 62}) {
        if (into_line != 8 && dtype != DType::kBF16) continue;  // the others are read as they come
        const RandomMatrix w(out, in, dtype, 17, into_line);
        const std::vector<float> all = product(owned, w, x.data(), kRows);
        for (const int rows : {1, 2, 7, 16, 33, 64}) {
          const int first = rows % 2 == 0 ? kRows - rows : 5;
          const std::vector<float> some = product(owned, w, x.data() + first * in, rows);
          ASSERT_EQ(std::memcmp(some.data(), all.data() + first * out, some.size() * sizeof(float)),
                    0)
              << dtype_name(dtype) << " " << out << "x" << in << ", " << rows << " rows from "
              << first << ", " << into_line << " bytes into a line";
        }
      }
    }
  }
}

TEST_P(FastLinearTest, PlaceInMemoryDoesNotMatter) {
  for (const auto& [out, in] : {LinearCase{64, 96}, LinearCase{40, 32}, LinearCase{32, 70}}) {
    for (const int rows : {1, 50}) {
      const std::vector<float> x = random_floats(static_cast<std::size_t>(rows * in), 68);
      OwnedOps owned = fast_ops(1, GetParam(), spec_of_width(in), rows);
      for (const std::size_t into_line : {0, 2, 4, 8, 20, 32, 60, 62}) {
        const RandomMatrix w(out, in, DType::kBF16, 67, into_line);
        const std::vector<float> y = product(owned, w, x.data(), rows);
        for (int r = 0; r < rows; ++r) {
          ASSERT_LE(relative_error(std::span(y).subspan(static_cast<std::size_t>(r * out)),
                                   exact_product(w, x.data() + r * in)),
                    1e-6)
              << out << "x" << in << ", row " << r << ", " << into_line << " bytes into a line";
        }
      }
    }
  }
}

// The result ends where memory does: nothing may be written, nor asked for, behind it.
TEST_P(FastLinearTest, NothingIsTouchedBehindTheResult) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t bytes = 64 * page;
  auto* memory = static_cast<std::byte*>(
      ::mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(::mprotect(memory + bytes, page, PROT_NONE), 0);
  for (const DType dtype : kDTypes) {
    for (const int out : {1, 2, 3, 5, 7, 30, 32, 33, 66}) {
      for (const int rows : {1, 3, 4, 16, 23}) {
        const RandomMatrix w(out, 40, dtype, 57);
        const std::vector<float> x = random_floats(static_cast<std::size_t>(rows * 40), 58);
        OwnedOps owned = fast_ops(1, GetParam(), spec_of_width(40), rows);
        const std::vector<float> expected = product(owned, w, x.data(), rows);
        auto* to = reinterpret_cast<float*>(memory + bytes) - rows * out;
        owned.ops->linear(x.data(), rows, w.matrix(), {}, to);
        ASSERT_EQ(std::memcmp(to, expected.data(), expected.size() * sizeof(float)), 0);
      }
    }
  }
  ::munmap(memory, bytes + page);
}

TEST_P(FastLinearTest, ThreadsDoNotShow) {
  constexpr int kRows = 40;
  const RandomMatrix w(500, 300, DType::kBF16, 27);
  const std::vector<float> x = random_floats(kRows * 300, 28);
  OwnedOps one = fast_ops(1, GetParam(), spec_of_width(300), kRows);
  const std::vector<float> expected = product(one, w, x.data(), kRows);
  for (const int threads : {2, 7}) {
    OwnedOps several = fast_ops(threads, GetParam(), spec_of_width(300), kRows);
    for (int repeat = 0; repeat < 4; ++repeat) {
      ASSERT_EQ(product(several, w, x.data(), kRows), expected) << threads << " threads";
    }
  }
}

TEST_P(FastLinearTest, EveryE4m3ValueIsExact) {
  // One row of weights holds all finite values; inputs pick them out one at a time.
  std::vector<std::uint8_t> bits;
  for (int value = 0; value < 256; ++value) {
    if ((value & 0x7f) != 0x7f) bits.push_back(static_cast<std::uint8_t>(value));
  }
  const int n = static_cast<int>(bits.size());
  const std::vector<float> scales(2, 0.5f);
  Matrix w;
  w.weight = {DType::kF8E4M3, {1, n}, reinterpret_cast<const std::byte*>(bits.data())};
  w.scale_inv = {DType::kF32, {1, 2}, reinterpret_cast<const std::byte*>(scales.data())};
  std::vector<float> x(static_cast<std::size_t>(n * n));
  for (int i = 0; i < n; ++i) x[static_cast<std::size_t>(i * n + i)] = 1.0f;
  std::vector<float> out(static_cast<std::size_t>(n), -1.0f);
  OwnedOps owned = fast_ops(1, GetParam(), spec_of_width(n), n);
  owned.ops->linear(x.data(), n, w, {}, out.data());
  for (int i = 0; i < n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    EXPECT_EQ(out[at], 0.5f * to_float(F8E4M3{bits[at]})) << static_cast<int>(bits[at]);
  }
}

TEST_P(FastLinearTest, NanShows) {
  const RandomMatrix w(40, 64, DType::kBF16, 37);
  std::vector<float> x = random_floats(3 * 64, 38);
  x[64 + 5] = std::numeric_limits<float>::quiet_NaN();
  OwnedOps owned = fast_ops(1, GetParam(), spec_of_width(64), 3);
  const std::vector<float> y = product(owned, w, x.data(), 3);
  for (int f = 0; f < 40; ++f) {
    EXPECT_TRUE(std::isfinite(y[static_cast<std::size_t>(f)]));
    EXPECT_TRUE(std::isnan(y[static_cast<std::size_t>(40 + f)]));
    EXPECT_TRUE(std::isfinite(y[static_cast<std::size_t>(80 + f)]));
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, FastLinearTest, testing::ValuesIn(isas()),
                         [](const auto& test) { return test.param; });

TEST(FastOps, UnknownIsaIsAUsageError) {
  try {
    make_fast_ops(1, "avx1024");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("avx1024"), std::string::npos);
    EXPECT_NE(error.hint().find("portable"), std::string::npos);
  }
}

}  // namespace
}  // namespace moeopt::cpu
