// What "lately" means: never zeros after a burst, never yesterday's rows.
#include "routing/counts_window.h"

#include <gtest/gtest.h>

namespace moeopt {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class CountsWindowTest : public testing::Test {
 protected:
  // One more row at this time since the start.
  void count(milliseconds at) {
    total_.add(std::vector<std::uint32_t>{0, 1});
    window_.update(total_, start_ + at);
  }
  std::uint64_t rows(milliseconds at) const { return window_.at(start_ + at).total(); }

  const CountsWindow::Clock::time_point start_{std::chrono::hours(1000)};
  ExpertCounts total_{{2}};
  CountsWindow window_{total_, start_};
};

TEST_F(CountsWindowTest, AShortBurstIsSeenAtOnceAndForTenSeconds) {
  EXPECT_EQ(rows(seconds(3600)), 0u);
  count(seconds(3600));
  count(milliseconds(3'600'040));
  EXPECT_EQ(rows(milliseconds(3'600'040)), 2u);
  EXPECT_EQ(rows(seconds(3609)), 2u);
  EXPECT_EQ(rows(seconds(3611)), 0u);
  EXPECT_EQ(window_.total().total(), 2u);
}

TEST_F(CountsWindowTest, AfterAPauseTheBurstBeforeIsNotInIt) {
  for (int i = 0; i < 9; ++i) count(milliseconds(100 * i));
  count(seconds(100));
  EXPECT_EQ(rows(seconds(101)), 1u);
  EXPECT_EQ(rows(seconds(111)), 0u);
}

TEST_F(CountsWindowTest, SteadyWorkFillsBetweenTenAndElevenSeconds) {
  int n = 0;
  for (milliseconds t{0}; t < seconds(300); t += milliseconds(100)) {
    count(t);
    ++n;
    const std::uint64_t seen = rows(t);
    if (t < seconds(10)) {
      EXPECT_EQ(seen, static_cast<unsigned>(n));
    } else {
      EXPECT_GE(seen, 100u) << t.count();
      EXPECT_LE(seen, 112u) << t.count();
    }
  }
}

TEST_F(CountsWindowTest, SlowStepsCountWhole) {
  for (int i = 1; i <= 20; ++i) count(seconds(7 * i));
  EXPECT_EQ(rows(seconds(140)), 2u);
  EXPECT_EQ(rows(seconds(149)), 1u);
}

}  // namespace
}  // namespace moeopt
