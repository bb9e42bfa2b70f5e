#include "base/strings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

namespace moeopt {
namespace {

TEST(Split, KeepsEmptyParts) {
  EXPECT_THAT(split("a,b", ','), testing::ElementsAre("a", "b"));
  EXPECT_THAT(split("", ','), testing::ElementsAre(""));
  EXPECT_THAT(split(",a,,", ','), testing::ElementsAre("", "a", "", ""));
}

TEST(NearestMatch, FindsATypoAndNothingElse) {
  constexpr std::array<std::string_view, 3> kWords = {"balanced", "conservative", "aggressive"};
  EXPECT_EQ(nearest_match("balancd", kWords), "balanced");
  EXPECT_EQ(nearest_match("agressive", kWords), "aggressive");
  EXPECT_EQ(nearest_match("balanced", kWords), "balanced");
  EXPECT_EQ(nearest_match("fast", kWords), "");
  EXPECT_EQ(nearest_match("", kWords), "");
  EXPECT_EQ(nearest_match("x", {}), "");
  constexpr std::array<std::string_view, 2> kShort = {"on", "off"};
  EXPECT_EQ(nearest_match("of", kShort), "on") << "two edits are allowed, the first of equals wins";
  EXPECT_EQ(nearest_match(std::string(100'000, 'b'), kWords), "");
}

TEST(FormatBytes, HasThreeDigitsAndBinaryUnits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.00 KiB");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(10 * 1024 + 512), "10.5 KiB");
  EXPECT_EQ(format_bytes(std::uint64_t{5} << 30), "5.00 GiB");
  EXPECT_EQ(format_bytes(std::uint64_t{100} << 20), "100 MiB");
  EXPECT_EQ(format_bytes((std::uint64_t{1} << 20) - 1), "1.00 MiB");
  EXPECT_EQ(format_bytes(~std::uint64_t{0}), "16384 PiB");
}

TEST(FormatCount, HasThreeDigitsAndDecimalUnits) {
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1.00 k");
  EXPECT_EQ(format_count(30.5e9), "30.5 B");
  EXPECT_EQ(format_count(3.35e6), "3.35 M");
  EXPECT_EQ(format_count(9.999e9), "10.0 B");
  EXPECT_EQ(format_count(99.96e6), "100 M");
  EXPECT_EQ(format_count(999.9e6), "1.00 B");
  EXPECT_EQ(format_count(671e9), "671 B");
}

TEST(Printable, HidesControlCharactersAndCutsBetweenCharacters) {
  EXPECT_EQ(printable("model.layers.0"), "model.layers.0");
  EXPECT_EQ(printable("h\xc3\xa9"), "h\xc3\xa9");
  EXPECT_EQ(printable("a\x1b[2J\n\x7f"), "a\\x1b[2J\\x0a\\x7f");
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(printable("12345", 5), "12345");
  EXPECT_EQ(printable("123456", 5), "12345...");
  EXPECT_EQ(printable("1234\xe2\x82\xac", 5), "1234...");
  EXPECT_EQ(printable("1234\xe2\x82\xac", 6), "1234...");
  EXPECT_EQ(printable("1234\xe2\x82\xac", 7), "1234\xe2\x82\xac");
  EXPECT_EQ(printable(std::string(10, '\x80'), 4), "...");
}

}  // namespace
}  // namespace moeopt
