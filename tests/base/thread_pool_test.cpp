#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace moeopt {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunsOnceOnEveryMember) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.threads(), GetParam());
  std::vector<int> calls(static_cast<std::size_t>(GetParam()));
  for (int run = 0; run < 200; ++run) {
    pool.run([&](int member) { ++calls[static_cast<std::size_t>(member)]; });
  }
  for (const int count : calls) EXPECT_EQ(count, 200);
}

TEST_P(ThreadPoolTest, CallerIsMemberZero) {
  ThreadPool pool(GetParam());
  std::vector<std::thread::id> ids(static_cast<std::size_t>(GetParam()));
  pool.run([&](int member) { ids[static_cast<std::size_t>(member)] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  for (std::size_t i = 1; i < ids.size(); ++i) EXPECT_NE(ids[i], ids[0]);
}

TEST_P(ThreadPoolTest, HandsOutEveryItemOnce) {
  ThreadPool pool(GetParam());
  for (const int n : {0, 1, 2, 3, 7, 1000}) {
    std::vector<int> calls(static_cast<std::size_t>(n));
    pool.for_each(n, [&](int i, int member) {
      ASSERT_LT(member, pool.threads());
      ++calls[static_cast<std::size_t>(i)];
    });
    EXPECT_EQ(std::accumulate(calls.begin(), calls.end(), 0), n);
    for (const int count : calls) EXPECT_EQ(count, 1);
  }
}

// A member that slept in the kernel must wake, and its writes must be seen.
TEST_P(ThreadPoolTest, WakesAfterIdling) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::vector<int> written(static_cast<std::size_t>(GetParam()), -1);
    pool.run([&](int member) {
      if (member == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      written[static_cast<std::size_t>(member)] = round;
    });
    for (const int value : written) EXPECT_EQ(value, round);
  }
}

TEST_P(ThreadPoolTest, MayBeDestroyedUnused) {
  const ThreadPool pool(GetParam());
}

TEST_P(ThreadPoolTest, SharesAmongThoseWhoCome) {
  ThreadPool pool(GetParam());
  const auto members = static_cast<std::size_t>(GetParam());
  std::vector<std::atomic<int>> inside(members);
  for (int run = 0; run < 2000; ++run) {
    std::vector<int> calls(members);
    pool.share([&](int member) {
      const auto at = static_cast<std::size_t>(member);
      ++inside[at];
      ++calls[at];
      if (run % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
      --inside[at];
    });
    EXPECT_EQ(calls[0], 1);
    for (std::size_t i = 0; i < members; ++i) {
      ASSERT_LE(calls[i], 1);
      ASSERT_EQ(inside[i], 0) << "member " << i << " was left behind in run " << run;
    }
  }
}

// Sixteen threads cannot all wake while the caller does nothing: it must go on without the others.
TEST(ThreadPool, SharingDoesNotWaitForThoseWhoDoNotCome) {
  ThreadPool pool(16);
  std::atomic<int> calls{0};
  constexpr int kRuns = 500;
  for (int run = 0; run < kRuns; ++run) {
    pool.share([&](int) { ++calls; });
  }
  EXPECT_GE(calls, kRuns);
  EXPECT_LT(calls, 16 * kRuns);
  std::atomic<int> everyone{0};
  pool.run([&](int) { ++everyone; });
  EXPECT_EQ(everyone, 16);
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolTest, testing::Values(1, 2, 7));

TEST(ThreadPoolDeathTest, NeedsAMember) {
  EXPECT_DEATH(ThreadPool pool(0), "threads >= 1");
}

}  // namespace
}  // namespace moeopt
