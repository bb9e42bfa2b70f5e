// EngineService from several threads: accepted requests end exactly once, the rest is refused by
// its reason, a hanging step is seen, stopping ends.
#include "engine/engine_service.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <numeric>
#include <random>

#include "base/error.h"
#include "base/log.h"
#include "engine/engine_util.h"
#include "engine/fake_backend.h"

namespace moeopt {
namespace {

using std::chrono::milliseconds;

class EngineServiceTest : public testing::Test {
 protected:
  EngineServiceTest() { log::set_level(log::Level::kOff); }
  ~EngineServiceTest() override { log::set_level(log::Level::kInfo); }

  EngineService& start(const EngineService::Options& options) {
    EngineOptions engine;
    engine.max_model_len = 64;
    engine.max_step_tokens = 16;
    service_ = std::make_unique<EngineService>(std::make_unique<Engine>(backend_, nullptr, engine),
                                               options);
    return *service_;
  }
  template <typename Condition>
  static bool soon(const Condition& holds) {
    for (int i = 0; i < 5000 && !holds(); ++i) std::this_thread::sleep_for(milliseconds(1));
    return holds();
  }
  ErrorCode refusal(Request request) {
    try {
      service_->submit(std::move(request), [](const Event&) { ADD_FAILURE() << "an event"; });
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "accepted";
    return ErrorCode::kInternal;
  }

  FakeBackend backend_{4, 16, 64, 4, 60};
  std::unique_ptr<EngineService> service_;
};

TEST_F(EngineServiceTest, ManyThreadsEveryRequestEndsOnceWithItsTokens) {
  EngineService& service = start({.max_waiting = 10'000});
  constexpr int kThreads = 4, kEach = 60;
  struct Slot {
    std::atomic<int> finishes{0};
    std::vector<std::int32_t> ids;
    std::atomic<FinishReason> finish{FinishReason::kNone};
  };
  std::deque<Slot> slots(kThreads * kEach);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < kEach; ++i) {
        Slot& slot = slots[static_cast<std::size_t>(t * kEach + i)];
        const RequestId id =
            service.submit(request_of(counting(1 + i % 20, t), 1 + i % 9), [&](const Event& event) {
              if (event.token != nullptr) slot.ids.push_back(event.token->id);
              if (event.finish == FinishReason::kNone) return;
              slot.finish = event.finish;
              slot.finishes += 1;
            });
        if (random() % 5 == 0) service.cancel(id);
        EXPECT_EQ(service.snapshot().blocks_total, 60);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(service.stop(milliseconds(20'000)));
  for (int t = 0; t < kThreads; ++t) {
    for (int i = 0; i < kEach; ++i) {
      const Slot& slot = slots[static_cast<std::size_t>(t * kEach + i)];
      EXPECT_EQ(slot.finishes, 1);
      auto wanted = FakeBackend::expected(counting(1 + i % 20, t), 1 + i % 9);
      if (slot.finish != FinishReason::kLength) wanted.resize(slot.ids.size());
      EXPECT_EQ(slot.ids, wanted);
    }
  }
  const EngineSnapshot after = service.snapshot();
  EXPECT_EQ(after.state, ServiceState::kStopped);
  EXPECT_EQ(after.running + after.waiting, 0);
  EXPECT_EQ(after.blocks_free + after.blocks_cached, 60);
  EXPECT_EQ(after.counters.finished_length + after.counters.finished_cancelled,
            std::uint64_t{kThreads * kEach});
  EXPECT_EQ(std::accumulate(after.step_time.counts.begin(), after.step_time.counts.end(), 0u),
            after.counters.steps);
}

TEST_F(EngineServiceTest, CountersOfARequestAreThereWhenItsEndIs) {
  EngineService& service = start({});
  for (int i = 1; i <= 50; ++i) {
    std::atomic<bool> ended{false}, counted{false};
    service.submit(request_of({1, 2}, 3), [&](const Event& event) {
      if (event.finish == FinishReason::kNone) return;
      const EngineSnapshot now = service.snapshot();
      counted = now.counters.output_tokens == 3u * static_cast<unsigned>(i) &&
                now.counters.finished_length == static_cast<unsigned>(i) && now.running == 0;
      ended = true;
    });
    ASSERT_TRUE(soon([&] { return ended.load(); }));
    EXPECT_TRUE(counted);
  }
}

TEST_F(EngineServiceTest, RefusesBadFullAndLate) {
  EngineService& service = start({.max_waiting = 2});
  EXPECT_EQ(refusal(request_of({}, 3)), ErrorCode::kUsage);
  std::atomic<bool> hold{true};
  std::atomic<int> ended{0};
  const auto sink = [&](const Event& event) {
    while (hold) std::this_thread::yield();
    ended += event.finish == FinishReason::kNone ? 0 : 1;
  };
  for (int i = 0; i < 6; ++i) service.submit(request_of({1}, 2), sink);  // four run, two wait
  EXPECT_EQ(refusal(request_of({1}, 2)), ErrorCode::kOverloaded);
  service.drain();
  EXPECT_EQ(refusal(request_of({1}, 2)), ErrorCode::kUnavailable);
  EXPECT_EQ(service.snapshot().state, ServiceState::kDraining);
  hold = false;
  EXPECT_TRUE(soon([&] { return ended == 6; }));
  EXPECT_EQ(service.snapshot().state, ServiceState::kDraining);
  EXPECT_TRUE(service.stop(milliseconds(1000)));
  EXPECT_EQ(refusal(request_of({1}, 2)), ErrorCode::kUnavailable);
}

TEST_F(EngineServiceTest, MoreChoicesThanThereIsRoomForGetInAlone) {
  EngineService& service = start({.max_waiting = 0});
  Request request = request_of({1, 2, 3}, 4);
  request.n = 9;
  std::atomic<int> ended{0};
  service.submit(std::move(request), [&](const Event& event) {
    ended += event.finish == FinishReason::kLength ? 1 : 0;
  });
  EXPECT_TRUE(soon([&] { return ended == 9; }));
}

TEST_F(EngineServiceTest, AHangingStepIsSeenWhileItHangsAndOverWhenItIsOver) {
  EngineService& service =
      start({.max_waiting = 10, .queue_timeout = milliseconds(0), .stuck_after = milliseconds(40)});
  backend_.stall_ms = 400;
  std::atomic<bool> ended{false};
  service.submit(request_of({1}, 2),
                 [&](const Event& event) { ended = ended || event.finish != FinishReason::kNone; });
  EXPECT_TRUE(soon([&] { return service.snapshot().state == ServiceState::kStuck; }));
  EXPECT_GT(service.snapshot().silent_for, milliseconds(40));
  EXPECT_FALSE(ended);
  EXPECT_TRUE(soon([&] { return ended.load(); }));
  EXPECT_TRUE(soon([&] { return service.snapshot().state == ServiceState::kServing; }));
}

TEST_F(EngineServiceTest, StopCancelsWhatDoesNotEndInTime) {
  EngineService& service = start({});
  std::atomic<int> cancelled{0}, ended{0};
  std::atomic<bool> slow{true};
  for (int i = 0; i < 10; ++i) {
    service.submit(request_of({1}, 60), [&](const Event& event) {
      if (slow) std::this_thread::sleep_for(milliseconds(5));
      if (event.finish == FinishReason::kNone) return;
      ended += 1;
      cancelled += event.finish == FinishReason::kCancelled ? 1 : 0;
    });
  }
  EXPECT_TRUE(service.stop(milliseconds(30)));
  EXPECT_EQ(ended, 10);
  EXPECT_GT(cancelled, 0);
}

TEST_F(EngineServiceTest, AFailingBackendEndsRequestsAndTheServiceGoesOn) {
  EngineService& service = start({});
  backend_.fail_all = true;
  std::atomic<int> failed{0}, fine{0};
  const auto sink = [&](const Event& event) {
    failed += event.finish == FinishReason::kError ? 1 : 0;
    fine += event.finish == FinishReason::kLength ? 1 : 0;
  };
  for (int i = 0; i < 12; ++i) service.submit(request_of({1}, 5), sink);
  EXPECT_TRUE(soon([&] { return failed == 12; }));
  EXPECT_EQ(service.snapshot().state, ServiceState::kFailing);
  backend_.fail_all = false;
  service.submit(request_of({1}, 5), sink);
  EXPECT_TRUE(soon([&] { return fine == 1; }));
  EXPECT_EQ(service.snapshot().state, ServiceState::kServing);
}

TEST(StepTimes, GoIntoTheirBuckets) {
  StepTimeHistogram times;
  for (const double ms : {0.5, 1.0, 1.5, 250.0, 251.0, 1e6}) times.add(ms);
  EXPECT_EQ(times.counts[0], 2u);
  EXPECT_EQ(times.counts[1], 1u);
  EXPECT_EQ(times.counts[10], 1u);
  EXPECT_EQ(times.counts[11], 1u);
  EXPECT_EQ(times.counts.back(), 1u);
  EXPECT_DOUBLE_EQ(times.sum_ms, 1'000'504.0);
}

}  // namespace
}  // namespace moeopt
