// Philox4x32-10 against the known answers of Random123 (kat_vectors), and what is built on it.
#include "backend/philox.h"

#include <gtest/gtest.h>

namespace moeopt {
namespace {

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, DrawsAreUniformInTheHalfOpenUnit) {
  constexpr int kDraws = 100000, kBins = 20;
  std::array<int, kBins> counts{};
  for (std::uint64_t position = 0; position < kDraws; ++position) {
    const double u = uniform_draw(42, position);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++counts[static_cast<std::size_t>(u * kBins)];
  }
  double chi_square = 0;
  for (const int n : counts) {
    const double expected = static_cast<double>(kDraws) / kBins;
    chi_square += (n - expected) * (n - expected) / expected;
  }
  EXPECT_LT(chi_square, 43.8);  // 19 degrees of freedom, p = 0.001
}

TEST(Philox, EverySeedBitMatters) {
  for (int bit = 0; bit < 64; ++bit) {
    EXPECT_NE(uniform_draw(0, 5), uniform_draw(std::uint64_t{1} << bit, 5)) << bit;
    EXPECT_NE(uniform_draw(7, 0), uniform_draw(7, std::uint64_t{1} << bit)) << bit;
  }
}

}  // namespace
}  // namespace moeopt
