#include "engine/engine.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "engine/engine_util.h"
#include "engine/fake_backend.h"

namespace moeopt {
namespace {

class EngineTest : public testing::TestWithParam<bool> {
 protected:
  EngineOptions options(int max_len, int step_tokens) const {
    EngineOptions options;
    options.max_model_len = max_len;
    options.max_step_tokens = step_tokens;
    options.overlap = GetParam();
    return options;
  }
};

TEST_P(EngineTest, OneRequestGetsItsTokens) {
  FakeBackend backend(2, 8, 64, 4, 40);
  Engine engine(backend, nullptr, options(64, 8));
  Collected got;
  engine.submit(request_of({5, 6, 7}, 9), collect_into(got));
  while (engine.step()) {
  }
  EXPECT_EQ(got.ids, FakeBackend::expected({5, 6, 7}, 9));
  EXPECT_EQ(got.finish, FinishReason::kLength);
  EXPECT_EQ(got.n_finishes, 1);
  EXPECT_EQ(engine.blocks().n_available(), 40);
}

TEST_P(EngineTest, PromptLongerThanAStepGoesInChunks) {
  FakeBackend backend(2, 8, 128, 4, 80);
  Engine engine(backend, nullptr, options(128, 8));
  std::vector<std::int32_t> prompt(61);
  for (int i = 0; i < 61; ++i) prompt[static_cast<std::size_t>(i)] = i % 50;
  Collected got;
  engine.submit(request_of(prompt, 5), collect_into(got));
  while (engine.step()) {
  }
  EXPECT_EQ(got.ids, FakeBackend::expected(prompt, 5));
  EXPECT_EQ(engine.counters().prefill_chunks, 8u);
  EXPECT_EQ(backend.largest_step(), 8);
}

TEST_P(EngineTest, StopIdEndsAndIgnoreEosDoesNot) {
  const auto whole = FakeBackend::expected({1, 2}, 12);
  FakeBackend backend(1, 8, 64, 4, 16);
  Engine engine(backend, nullptr, options(64, 8));
  const auto first = std::find(whole.begin(), whole.end(), whole[4]) - whole.begin();
  for (const bool ignore : {false, true}) {
    Request request = request_of({1, 2}, 12);
    request.stop_ids = {whole[4]};
    request.ignore_eos = ignore;
    Collected got;
    engine.submit(std::move(request), collect_into(got));
    while (engine.step()) {
    }
    const auto n = ignore ? whole.size() : static_cast<std::size_t>(first) + 1;
    EXPECT_EQ(got.ids, std::vector<std::int32_t>(whole.begin(),
                                                 whole.begin() + static_cast<std::ptrdiff_t>(n)));
    EXPECT_EQ(got.finish, ignore ? FinishReason::kLength : FinishReason::kStop);
  }
}

TEST_P(EngineTest, ContextBoundsTheOutput) {
  FakeBackend backend(1, 8, 16, 4, 16);
  Engine engine(backend, nullptr, options(16, 8));
  Collected got;
  engine.submit(request_of({1, 2, 3, 4}, 1000), collect_into(got));
  while (engine.step()) {
  }
  EXPECT_EQ(got.ids.size(), 12u);
  EXPECT_EQ(got.finish, FinishReason::kLength);
}

TEST_P(EngineTest, RefusesWhatCanNeverRun) {
  FakeBackend backend(1, 8, 64, 4, 4);
  Engine engine(backend, nullptr, options(64, 8));
  const auto refused = [&](Request request, const std::string& fragment) {
    try {
      engine.submit(std::move(request),
                    [](const Event&) { FAIL() << "a refused request has no events"; });
      ADD_FAILURE() << "accepted: " << fragment;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(error.what()).find(fragment), std::string::npos) << error.what();
    }
  };
  refused(request_of({}, 3), "prompt is empty");
  refused(request_of({FakeBackend::kVocab}, 3), "outside the vocabulary");
  refused(request_of({-1}, 3), "outside the vocabulary");
  refused(request_of({1}, 0), "max_tokens is 0");
  refused(request_of(std::vector<std::int32_t>(64, 1), 1), "context holds 64");
  refused(request_of({1}, 30), "needs 8 KV blocks");
  Request stop = request_of({1}, 1);
  stop.stop = {"x"};
  refused(std::move(stop), "no");
  EXPECT_FALSE(engine.step());
}

TEST_P(EngineTest, CancelWaitingAndRunning) {
  FakeBackend backend(1, 8, 64, 4, 16);
  Engine engine(backend, nullptr, options(64, 8));
  Collected running, waiting;
  const RequestId first = engine.submit(request_of({1}, 40), collect_into(running));
  const RequestId second = engine.submit(request_of({2}, 4), collect_into(waiting));
  for (int i = 0; i < 5; ++i) engine.step();
  engine.cancel(second);
  engine.cancel(first);
  engine.cancel(first);
  while (engine.step()) {
  }
  EXPECT_EQ(running.finish, FinishReason::kCancelled);
  EXPECT_EQ(running.n_finishes, 1);
  EXPECT_LT(running.ids.size(), 40u);
  EXPECT_EQ(waiting.finish, FinishReason::kCancelled);
  EXPECT_TRUE(waiting.ids.empty());
  EXPECT_EQ(engine.blocks().n_available(), 16);
}

TEST_P(EngineTest, CancelFromTheSinkIsSafe) {
  FakeBackend backend(2, 8, 64, 4, 32);
  Engine engine(backend, nullptr, options(64, 8));
  Collected victim;
  const RequestId id = engine.submit(request_of({1}, 40), collect_into(victim));
  engine.submit(request_of({3}, 6), [&](const Event& event) {
    if (event.finish == FinishReason::kNone) engine.cancel(id);
  });
  while (engine.step()) {
  }
  EXPECT_EQ(victim.n_finishes, 1);
  EXPECT_EQ(victim.finish, FinishReason::kCancelled);
}

TEST_P(EngineTest, NonFiniteLogitsEndOneRequestAlone) {
  FakeBackend backend(2, 8, 64, 4, 32);
  Engine engine(backend, nullptr, options(64, 8));
  const auto bad = FakeBackend::expected({1, 1}, 10);
  const auto good = FakeBackend::expected({2, 9}, 10);
  std::int32_t poison = -1;
  for (const std::int32_t id : bad) {
    if (std::find(good.begin(), good.end(), id) == good.end()) poison = id;
  }
  ASSERT_GE(poison, 0);
  backend.poison(poison);
  Collected a, b;
  engine.submit(request_of({1, 1}, 10), collect_into(a));
  engine.submit(request_of({2, 9}, 10), collect_into(b));
  while (engine.step()) {
  }
  EXPECT_EQ(a.finish, FinishReason::kError);
  EXPECT_EQ(b.ids, good);
}

TEST_P(EngineTest, RandomLoadGivesEachRequestWhatItGetsAlone) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    const int sequences = 1 + static_cast<int>(random() % 5);
    const int step_tokens = sequences + static_cast<int>(random() % 12);
    FakeBackend backend(sequences, step_tokens, 96, 1 + static_cast<int>(random() % 7), 110);
    Engine engine(backend, nullptr, options(96, step_tokens));
    std::deque<Collected> got;
    std::vector<std::vector<std::int32_t>> wanted;
    std::vector<RequestId> cancelled;
    for (int submitted = 0; submitted < 25 || engine.step();) {
      if (submitted < 25 && random() % 3 == 0) {
        std::vector<std::int32_t> prompt(1 + random() % 40);
        for (auto& id : prompt) id = static_cast<std::int32_t>(random() % FakeBackend::kVocab);
        const int n = 1 + static_cast<int>(random() % 20);
        wanted.push_back(FakeBackend::expected(prompt, n));
        got.emplace_back();
        const RequestId id = engine.submit(request_of(prompt, n), collect_into(got.back()));
        if (random() % 6 == 0) cancelled.push_back(id);
        ++submitted;
      } else if (!cancelled.empty() && random() % 4 == 0) {
        engine.cancel(cancelled.back());
        cancelled.pop_back();
      } else {
        engine.step();
      }
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_EQ(got[i].n_finishes, 1);
      if (got[i].finish == FinishReason::kCancelled) wanted[i].resize(got[i].ids.size());
      EXPECT_EQ(got[i].ids, wanted[i]) << "request " << i << " of round " << round;
    }
    EXPECT_EQ(engine.blocks().n_available(), 110);
  }
}

TEST_P(EngineTest, StartUpStepIsCountedApart) {
  FakeBackend backend(2, 8, 64, 4, 32);
  Engine engine(backend, nullptr, options(64, 8));
  const Engine::Counters counted = engine.start_up_step();
  EXPECT_EQ(counted.prompt_tokens, 10u) << "a block and a token, twice";
  EXPECT_EQ(counted.prefill_chunks, 2u);
  EXPECT_EQ(counted.output_tokens, 4u);
  EXPECT_EQ(counted.prefix_hits_tokens, 4u);
  EXPECT_EQ(engine.counters().steps, 0u);
  EXPECT_EQ(engine.counters().prefill_chunks, 0u);
  EXPECT_GT(backend.steps(), 0u);
  EXPECT_EQ(engine.backend_counters().steps, 0u) << "the backend's too";
  EXPECT_EQ(engine.blocks().n_cached(), 0) << "traffic finds nothing of it";
  Collected got;
  engine.submit(request_of({5, 6, 7, 8, 9, 10, 11}, 3), collect_into(got));
  while (engine.step()) {
  }
  EXPECT_EQ(got.ids, FakeBackend::expected({5, 6, 7, 8, 9, 10, 11}, 3));
  EXPECT_EQ(engine.counters().prefill_chunks, 0u) << "8 tokens a step again";
  EXPECT_EQ(engine.backend_counters().steps, engine.counters().steps);
}

TEST_P(EngineTest, StartUpStepCountsNothingOfWhatIsOff) {
  FakeBackend backend(2, 64, 64, 4, 32);
  EngineOptions off = options(64, 64);
  off.prefix_cache = off.chunked_prefill = false;
  Engine engine(backend, nullptr, off);
  const Engine::Counters counted = engine.start_up_step();
  EXPECT_EQ(counted.prefill_chunks, 0u);
  EXPECT_EQ(counted.prefix_queries_tokens, 0u);
  EXPECT_EQ(counted.prefix_hits_tokens, 0u);
}

TEST_P(EngineTest, StartUpStepRunsWhereHardlyAnythingFits) {
  FakeBackend backend(1, 4, 4, 4, 1);
  Engine engine(backend, nullptr, options(4, 4));
  EXPECT_EQ(engine.start_up_step().prefix_hits_tokens, 0u);
  FakeBackend tiny(1, 1, 2, 4, 1);
  Engine smallest(tiny, nullptr, options(2, 1));
  EXPECT_EQ(smallest.start_up_step().output_tokens, 1u);
}

INSTANTIATE_TEST_SUITE_P(Overlap, EngineTest, testing::Bool(),
                         [](const auto& mode) { return mode.param ? "overlapped" : "plain"; });

}  // namespace
}  // namespace moeopt
