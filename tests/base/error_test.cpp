#include "base/error.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace moeopt {
namespace {

TEST(ExitCode, EveryKindHasItsOwn) {
  const std::vector<std::pair<ErrorCode, int>> codes = {
      {ErrorCode::kUsage, 2},       {ErrorCode::kDoesNotFit, 3},  {ErrorCode::kRequirement, 4},
      {ErrorCode::kNotFound, 5},    {ErrorCode::kInvalidData, 6}, {ErrorCode::kUnsupported, 7},
      {ErrorCode::kIo, 8},          {ErrorCode::kInternal, 70},   {ErrorCode::kOverloaded, 75},
      {ErrorCode::kUnavailable, 69}};
  std::set<int> seen;
  for (const auto& [code, expected] : codes) {
    EXPECT_EQ(exit_code(code), expected);
    EXPECT_TRUE(seen.insert(exit_code(code)).second);
  }
}

TEST(Error, CarriesCodeTextAndHint) {
  const Error error(ErrorCode::kNotFound, "x: there is no x", "make one");
  EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  EXPECT_STREQ(error.what(), "x: there is no x");
  EXPECT_EQ(error.hint(), "make one");
  EXPECT_EQ(Error(ErrorCode::kIo, "y").hint(), "");
}

TEST(ThrowError, Formats) {
  try {
    throw_error(ErrorCode::kDoesNotFit, "{} of {}", 3, "four");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDoesNotFit);
    EXPECT_STREQ(error.what(), "3 of four");
  }
}

}  // namespace
}  // namespace moeopt
