// What the engine does beyond running requests: prefixes, choices, preemption, deadlines. The fake
// backend checks every position that a step reads.
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/engine_util.h"
#include "engine/fake_backend.h"

namespace moeopt {
namespace {

using std::chrono::milliseconds;
using Ids = std::vector<std::int32_t>;

TEST(PrefixHits, AreReportedAndChangeNothing) {
  FakeBackend backend(2, 8, 96, 4, 60);
  Engine engine(backend, nullptr, options_of(96, 8));
  const Ids prompt = counting(22);
  const Collected cold = answer(engine, request_of(prompt, 9));
  EXPECT_EQ(cold.cached_tokens, 0);
  const Collected warm = answer(engine, request_of(prompt, 9));
  EXPECT_EQ(warm.cached_tokens, 20);
  EXPECT_EQ(warm.ids, cold.ids);
  EXPECT_EQ(engine.counters().prefix_queries_tokens, 44u);
  EXPECT_EQ(engine.counters().prefix_hits_tokens, 20u);
  EXPECT_EQ(engine.counters().prefill_tokens, 24u);

  // The next turn of a conversation finds prompt and answer.
  Ids turn = prompt;
  turn.insert(turn.end(), cold.ids.begin(), cold.ids.end());
  turn.insert(turn.end(), {1, 2, 3});
  const Collected next = answer(engine, request_of(turn, 5));
  EXPECT_EQ(next.cached_tokens, 28) << "of 22 + 8 computed positions, in whole blocks";
  EXPECT_EQ(next.ids, FakeBackend::expected(turn, 5));

  // A prompt in whole blocks computes its last token alone.
  const std::uint64_t before = engine.counters().prefill_tokens;
  const Collected whole = answer(engine, request_of(counting(20), 3));
  EXPECT_EQ(whole.cached_tokens, 19);
  EXPECT_EQ(engine.counters().prefill_tokens, before + 1);
  EXPECT_EQ(whole.ids, FakeBackend::expected(counting(20), 3));
}

TEST(PrefixHits, NoneWhenSwitchedOff) {
  FakeBackend backend(2, 8, 96, 4, 60);
  EngineOptions options = options_of(96, 8);
  options.prefix_cache = false;
  Engine engine(backend, nullptr, options);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(answer(engine, request_of(counting(22), 9)).cached_tokens, 0);
  }
  EXPECT_EQ(engine.counters().prefix_queries_tokens, 0u);
  EXPECT_EQ(engine.blocks().n_cached(), 0);
  EXPECT_EQ(engine.blocks().n_free(), 60);
}

TEST(PrefixHits, AFailedStepLeavesNothingBehind) {
  FakeBackend backend(1, 8, 96, 4, 60);
  Engine engine(backend, nullptr, options_of(96, 8));
  backend.failing_steps = {2};
  EXPECT_EQ(answer(engine, request_of(counting(30), 4)).finish, FinishReason::kError);
  const Collected again = answer(engine, request_of(counting(30), 4));
  EXPECT_LE(again.cached_tokens, 8) << "the first step's tokens at most";
  EXPECT_EQ(again.ids, FakeBackend::expected(counting(30), 4));
}

class Choices : public testing::TestWithParam<bool> {};

TEST_P(Choices, ShareThePromptAndSampleWithTheirOwnSeeds) {
  for (const int n_prompt : {1, 4, 7, 8, 21}) {
    for (const int sequences : {1, 2, 8}) {
      FakeBackend backend(sequences, 8, 96, 4, 100);
      EngineOptions options = options_of(96, 8);
      options.prefix_cache = GetParam();
      Engine engine(backend, nullptr, options);
      Request request = request_of(counting(n_prompt), 6);
      request.n = 5;
      request.sampling.seed = 40;
      std::vector<Collected> got;
      engine.submit(std::move(request), collect_into(got));
      run(engine);
      ASSERT_EQ(got.size(), 5u);
      for (int choice = 0; choice < 5; ++choice) {
        const Collected& one = got[static_cast<std::size_t>(choice)];
        EXPECT_EQ(one.ids, FakeBackend::expected(counting(n_prompt), 6,
                                                 40 + static_cast<std::uint64_t>(choice)));
        EXPECT_EQ(one.n_finishes, 1);
      }
      EXPECT_EQ(engine.counters().prefill_tokens, static_cast<unsigned>(n_prompt + 4))
          << "the prompt once, its last token for each of the others";
      EXPECT_EQ(engine.counters().shared_prompt_tokens, 4u * static_cast<unsigned>(n_prompt - 1));
    }
  }
}

TEST_P(Choices, GoOnWhenTheFirstOneEndsEarly) {
  for (int after = 0; after < 6; ++after) {
    FakeBackend backend(2, 4, 96, 4, 100);
    EngineOptions options = options_of(96, 4);
    options.prefix_cache = GetParam();
    Engine engine(backend, nullptr, options);
    Request request = request_of(counting(14), 5);
    request.n = 3;
    std::vector<Collected> got(3);
    int events = 0;
    engine.submit(std::move(request), [&](const Event& event) {
      got[static_cast<std::size_t>(event.choice)].take(event);
      ++events;
      if (event.choice == 0 && event.finish == FinishReason::kNone) {
        throw std::runtime_error("the reader of choice 0 is gone");
      }
    });
    if (after < 5) backend.failing_steps = {static_cast<std::uint64_t>(after + 1)};
    run(engine);
    for (const Collected& one : got) EXPECT_EQ(one.n_finishes, 1);
    EXPECT_EQ(got[0].finish, FinishReason::kError);
    EXPECT_EQ(got[2].ids, FakeBackend::expected(counting(14), 5, 2)) << after;
  }
}

TEST_P(Choices, FitAPoolThatHasJustEnoughForOne) {
  FakeBackend backend(4, 8, 20, 4, 5);
  EngineOptions options = options_of(20, 8);
  options.prefix_cache = GetParam();
  Engine engine(backend, nullptr, options);
  Request request = request_of(counting(10), 10);
  request.n = 4;
  std::vector<Collected> got;
  engine.submit(std::move(request), collect_into(got));
  run(engine);
  for (int choice = 0; choice < 4; ++choice) {
    EXPECT_EQ(got[static_cast<std::size_t>(choice)].ids,
              FakeBackend::expected(counting(10), 10, static_cast<std::uint64_t>(choice)));
  }
  EXPECT_GT(engine.counters().preemptions, 0u);
}

INSTANTIATE_TEST_SUITE_P(PrefixCache, Choices, testing::Bool());

class Preemption : public testing::TestWithParam<bool> {};

TEST_P(Preemption, LosesAndChangesNoToken) {
  FakeBackend backend(4, 16, 40, 4, 13);
  EngineOptions options = options_of(40, 16);
  options.prefix_cache = GetParam();
  Engine engine(backend, nullptr, options);
  std::vector<Collected> got(6);
  for (int i = 0; i < 6; ++i) {
    Request request = request_of(counting(7 + i, i), 25);
    request.sampling.seed = static_cast<std::uint64_t>(i);
    engine.submit(std::move(request), collect_into(got[static_cast<std::size_t>(i)]));
  }
  run(engine);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(got[static_cast<std::size_t>(i)].ids,
              FakeBackend::expected(counting(7 + i, i), 25, static_cast<std::uint64_t>(i)));
  }
  EXPECT_GT(engine.counters().preemptions, 2u);
  EXPECT_EQ(engine.blocks().n_available(), 13);
}

TEST_P(Preemption, TakesTheYoungest) {
  FakeBackend backend(3, 16, 40, 4, 13);
  EngineOptions options = options_of(40, 16);
  options.prefix_cache = GetParam();
  Engine engine(backend, nullptr, options);
  std::vector<int> ends;
  for (int i = 0; i < 3; ++i) {
    engine.submit(request_of(counting(8, i), 20), [&ends, i](const Event& event) {
      if (event.finish != FinishReason::kNone) ends.push_back(i);
    });
  }
  run(engine);
  EXPECT_EQ(ends, (std::vector<int>{0, 1, 2}));
  EXPECT_GT(engine.counters().preemptions, 0u);
}

INSTANTIATE_TEST_SUITE_P(PrefixCache, Preemption, testing::Bool());

class Deadlines : public testing::Test {
 protected:
  Deadlines() {
    options_.now = [this] { return now_; };
  }
  void steps(Engine& engine, int n) {
    for (int i = 0; i < n; ++i) engine.step();
  }
  EngineOptions::Clock::time_point now_ = EngineOptions::Clock::now();
  EngineOptions options_ = options_of(64, 8);
  FakeBackend backend_{1, 8, 64, 4, 32};
};

TEST_F(Deadlines, ARequestThatTakesTooLongEndsWithWhatItHas) {
  Engine engine(backend_, nullptr, options_);
  Request request = request_of({1, 2}, 50);
  request.timeout = milliseconds(100);
  Collected slow, other;
  engine.submit(std::move(request), collect_into(slow));
  engine.submit(request_of({3}, 4), collect_into(other));
  now_ += milliseconds(99);
  steps(engine, 5);
  EXPECT_EQ(slow.n_finishes, 0);
  now_ += milliseconds(1);
  run(engine);
  EXPECT_EQ(slow.finish, FinishReason::kTimeout);
  EXPECT_EQ(slow.n_finishes, 1);
  EXPECT_NE(slow.error.find("100 ms"), std::string::npos);
  EXPECT_EQ(slow.ids.size(), 4u);
  EXPECT_EQ(other.ids, FakeBackend::expected({3}, 4));
  EXPECT_EQ(engine.counters().finished_timeout, 1u);
}

TEST_F(Deadlines, TheServersLimitHoldsForAll) {
  options_.request_timeout = milliseconds(50);
  Engine engine(backend_, nullptr, options_);
  Request request = request_of({1, 2}, 50);
  request.timeout = milliseconds(1000);
  Collected got;
  engine.submit(std::move(request), collect_into(got));
  steps(engine, 3);
  now_ += milliseconds(50);
  run(engine);
  EXPECT_EQ(got.finish, FinishReason::kTimeout);
}

TEST_F(Deadlines, AQueueTimeoutIsForThoseThatNeverRan) {
  options_.queue_timeout = milliseconds(20);
  Engine engine(backend_, nullptr, options_);
  Collected running, waiting;
  engine.submit(request_of({1}, 40), collect_into(running));
  engine.submit(request_of({2}, 40), collect_into(waiting));
  steps(engine, 2);
  now_ += milliseconds(25);
  run(engine);
  EXPECT_EQ(running.finish, FinishReason::kLength);
  EXPECT_EQ(waiting.finish, FinishReason::kTimeout);
  EXPECT_NE(waiting.error.find("20 ms"), std::string::npos);
  EXPECT_TRUE(waiting.ids.empty());
}

}  // namespace
}  // namespace moeopt
