// What fails, fails alone: sinks, backends, allocations. The engine goes on and stays whole.
#include <gtest/gtest.h>

#include <new>

#include "base/log.h"
#include "engine/engine.h"
#include "engine/engine_util.h"
#include "engine/fake_backend.h"

namespace moeopt {
namespace {

class EngineFaults : public testing::TestWithParam<bool> {
 protected:
  EngineFaults() { log::set_level(log::Level::kOff); }
  ~EngineFaults() override { log::set_level(log::Level::kInfo); }

  EngineOptions options() const {
    EngineOptions options;
    options.max_model_len = 64;
    options.max_step_tokens = 8;
    options.overlap = GetParam();
    return options;
  }
  static void run(Engine& engine) {
    while (engine.step()) {
    }
  }
  FakeBackend backend_{3, 8, 64, 4, 40};
};

TEST_P(EngineFaults, ASinkThatThrowsEndsItsRequestAlone) {
  Engine engine(backend_, nullptr, options());
  Collected good;
  int calls = 0, finishes = 0;
  FinishReason reason = FinishReason::kNone;
  engine.submit(request_of({1}, 10), [&](const Event& event) {
    ++calls;
    if (event.finish != FinishReason::kNone) {
      ++finishes;
      reason = event.finish;
    }
    if (calls >= 3) throw std::runtime_error("no one listens");
  });
  engine.submit(request_of({2}, 10), [](const Event&) { throw 7; });
  engine.submit(request_of({3}, 10), collect_into(good));
  run(engine);
  EXPECT_EQ(calls, 4) << "two heard, one thrown, one end";
  EXPECT_EQ(finishes, 1);
  EXPECT_EQ(reason, FinishReason::kError);
  EXPECT_EQ(good.ids, FakeBackend::expected({3}, 10));
  EXPECT_EQ(engine.counters().finished_error, 2u);
}

TEST_P(EngineFaults, AFailedStepEndsThoseInItAndTheEngineGoesOn) {
  Engine engine(backend_, nullptr, options());
  std::vector<Collected> got(5);
  for (int i = 0; i < 5; ++i) {
    engine.submit(request_of({i}, 6), collect_into(got[static_cast<std::size_t>(i)]));
  }
  backend_.failing_steps = {3};
  run(engine);
  for (int i = 0; i < 3; ++i) {
    const Collected& one = got[static_cast<std::size_t>(i)];
    EXPECT_EQ(one.finish, FinishReason::kError);
    EXPECT_EQ(one.n_finishes, 1);
    EXPECT_NE(one.error.find("on fire"), std::string::npos);
    EXPECT_EQ(one.ids.size(), 2u);
  }
  for (int i = 3; i < 5; ++i) {
    EXPECT_EQ(got[static_cast<std::size_t>(i)].ids, FakeBackend::expected({i}, 6));
  }
  EXPECT_EQ(engine.counters().failed_steps, 1u);
  EngineSnapshot snapshot;
  engine.fill(snapshot);
  EXPECT_EQ(snapshot.state, ServiceState::kServing);
  EXPECT_NE(snapshot.last_failure.find("on fire"), std::string::npos);
}

TEST_P(EngineFaults, StepsThatKeepFailingMakeItFailingUntilOneSucceeds) {
  Engine engine(backend_, nullptr, options());
  EngineSnapshot snapshot;
  backend_.fail_all = true;
  for (int i = 0; i < Engine::kFailingAfter; ++i) {
    Collected got;
    engine.submit(request_of({1}, 1), collect_into(got));
    run(engine);
    EXPECT_EQ(got.finish, FinishReason::kError);
  }
  engine.fill(snapshot);
  EXPECT_EQ(snapshot.state, ServiceState::kFailing);
  backend_.fail_all = false;
  Collected got;
  engine.submit(request_of({1}, 1), collect_into(got));
  run(engine);
  EXPECT_EQ(got.finish, FinishReason::kLength);
  engine.fill(snapshot);
  EXPECT_EQ(snapshot.state, ServiceState::kServing);
}

TEST_P(EngineFaults, ALaunchThatFailsEndsThoseInIt) {
  Engine engine(backend_, nullptr, options());
  Collected bad, good;
  engine.submit(request_of({1}, 6), collect_into(bad));
  backend_.prepare_failures = 1;
  engine.step();
  engine.submit(request_of({2}, 6), collect_into(good));
  run(engine);
  EXPECT_EQ(bad.finish, FinishReason::kError);
  EXPECT_NE(bad.error.find("prepare failed"), std::string::npos);
  EXPECT_EQ(good.ids, FakeBackend::expected({2}, 6));
}

TEST_P(EngineFaults, ARequestThatCannotBeAdmittedEndsAlone) {
  Engine engine(backend_, nullptr, options());
  Collected bad, good;
  engine.submit(request_of({1}, 6), collect_into(bad));
  engine.submit(request_of({2}, 6), collect_into(good));
  backend_.bind_failures = 1;
  run(engine);
  EXPECT_EQ(bad.finish, FinishReason::kError);
  EXPECT_EQ(bad.n_finishes, 1);
  EXPECT_EQ(good.ids, FakeBackend::expected({2}, 6));
}

// The clock stands for any line of the engine's own that may run out of memory.
TEST_P(EngineFaults, AnExceptionOfTheEnginesOwnEndsNothingThatWaits) {
  for (int at = 1; at < 30; ++at) {
    FakeBackend backend(3, 8, 64, 4, 40);
    EngineOptions breaking = options();
    int calls = -5;  // of the submissions
    breaking.now = [&calls, at] {
      if (++calls == at) throw std::bad_alloc();
      return EngineOptions::Clock::now();
    };
    Engine engine(backend, nullptr, breaking);
    std::vector<Collected> got(5);
    for (int i = 0; i < 5; ++i) {
      engine.submit(request_of({i}, 6), collect_into(got[static_cast<std::size_t>(i)]));
    }
    run(engine);
    int n_whole = 0;
    for (int i = 0; i < 5; ++i) {
      const Collected& one = got[static_cast<std::size_t>(i)];
      EXPECT_EQ(one.n_finishes, 1) << at;
      auto wanted = FakeBackend::expected({i}, 6);
      if (one.finish == FinishReason::kError) wanted.resize(one.ids.size());
      EXPECT_EQ(one.ids, wanted);
      n_whole += one.finish == FinishReason::kLength ? 1 : 0;
    }
    EXPECT_GE(n_whole, 2) << at;
    EXPECT_EQ(engine.counters().failed_steps, 1u) << at;
    EXPECT_EQ(engine.blocks().n_available(), 40);
  }
}

TEST_P(EngineFaults, AnObserverThatThrowsHarmsNobody) {
  Engine engine(backend_, nullptr, options());
  engine.set_observer([] { throw std::bad_alloc(); });
  Collected got;
  engine.submit(request_of({1}, 6), collect_into(got));
  run(engine);
  EXPECT_EQ(got.ids, FakeBackend::expected({1}, 6));
}

TEST_P(EngineFaults, ASinkMaySubmitAndCancel) {
  Engine engine(backend_, nullptr, options());
  Collected follow_up;
  engine.submit(request_of({1}, 6), [&](const Event& event) {
    if (event.finish == FinishReason::kLength) {
      engine.submit(request_of({9}, 6), collect_into(follow_up));
      engine.cancel(event.request);
    }
  });
  run(engine);
  EXPECT_EQ(follow_up.ids, FakeBackend::expected({9}, 6));
}

TEST_P(EngineFaults, CancelAllEndsEverythingOnce) {
  Engine engine(backend_, nullptr, options());
  std::vector<Collected> got(8);
  for (int i = 0; i < 8; ++i) {
    engine.submit(request_of({i}, 30), collect_into(got[static_cast<std::size_t>(i)]));
  }
  for (int i = 0; i < 4; ++i) engine.step();
  engine.cancel_all();
  engine.cancel_all();
  run(engine);
  for (const Collected& one : got) {
    EXPECT_EQ(one.finish, FinishReason::kCancelled);
    EXPECT_EQ(one.n_finishes, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Overlap, EngineFaults, testing::Bool(),
                         [](const auto& mode) { return mode.param ? "overlapped" : "plain"; });

}  // namespace
}  // namespace moeopt
