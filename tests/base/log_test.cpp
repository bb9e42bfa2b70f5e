#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace moeopt {
namespace {

TEST(Log, GoesToStandardErrorFromTheLevelOn) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  log::set_level(log::Level::kInfo);
  log::debug("one {}", 1);
  log::info("two {}", 2);
  log::error("three {}", "{not a format}");
  log::set_level(log::Level::kOff);
  log::error("four");
  log::set_level(log::Level::kWarning);
  log::info("five");
  log::warning("six");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_THAT(said, testing::AllOf(testing::HasSubstr("two 2\n"),
                                   testing::HasSubstr("three {not a format}\n"),
                                   testing::HasSubstr("six\n")));
  for (const char* hidden : {"one", "four", "five"}) {
    EXPECT_THAT(said, testing::Not(testing::HasSubstr(hidden)));
  }
}

}  // namespace
}  // namespace moeopt
