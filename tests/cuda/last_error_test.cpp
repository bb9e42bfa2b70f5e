#include "cuda/moe/last_error.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

namespace moeopt::cuda::moe {
namespace {

TEST(LastError, OnePerThreadAndEmptyAtFirst) {
  set_last_error("mine");
  std::string first;
  std::string second;
  std::thread([&] {
    first = last_error();
    set_last_error("theirs");
    second = last_error();
  }).join();
  EXPECT_EQ(first, "");
  EXPECT_EQ(second, "theirs");
  EXPECT_STREQ(last_error(), "mine");
}

TEST(LastError, CutsWhatIsTooLong) {
  set_last_error(std::string(5000, 'x'));
  EXPECT_EQ(std::string(last_error()), std::string(511, 'x'));
  set_last_error("short");
  EXPECT_STREQ(last_error(), "short");
}

}  // namespace
}  // namespace moeopt::cuda::moe
