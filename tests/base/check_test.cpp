#include "base/check.h"

#include <gtest/gtest.h>

namespace moeopt {
namespace {

TEST(CheckDeathTest, PrintsBothOperands) {
  const int rows = 3;
  EXPECT_DEATH(MOEOPT_CHECK(rows == 4), "rows == 4 \\(was: 3 == 4\\)");
  EXPECT_DEATH(MOEOPT_CHECK(rows > 5), "3 > 5");
}

TEST(Check, PassesSilently) {
  const bool yes = true;
  MOEOPT_CHECK(yes);
  MOEOPT_CHECK(1 + 1 == 2);
}

}  // namespace
}  // namespace moeopt
