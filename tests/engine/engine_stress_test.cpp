// Random lives: arrivals, cancels, deadlines, failing steps, tiny pools, choices, shared prefixes.
// The fake backend holds every step against its own idea of the KV memory, the engine checks the
// identity of blocks whenever it is idle, and every token must be what the request gets alone.
#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "base/log.h"
#include "engine/engine.h"
#include "engine/engine_util.h"
#include "engine/fake_backend.h"

namespace moeopt {
namespace {

using Ids = std::vector<std::int32_t>;

struct Life {
  Ids prompt;
  int max_tokens = 0, n = 0;
  std::uint64_t seed = 0;
  RequestId id = 0;
  std::vector<Collected> got;
};

constexpr int kSeeds = 8, kRounds = 12;

struct {
  int rounds = 0;
  std::uint64_t preemptions = 0, hits = 0, shared = 0, failed = 0, timeouts = 0;
} met;

class EngineStress : public testing::TestWithParam<int> {
 protected:
  EngineStress() { log::set_level(log::Level::kOff); }
  ~EngineStress() override { log::set_level(log::Level::kInfo); }

  // The lives met what they are there for.
  static void TearDownTestSuite() {
    if (met.rounds < kSeeds * kRounds) return;
    EXPECT_GT(met.preemptions, 50u);
    EXPECT_GT(met.hits, 1000u);
    EXPECT_GT(met.shared, 500u);
    EXPECT_GT(met.failed, 20u);
    EXPECT_GT(met.timeouts, 20u);
    std::printf("%d rounds: %lu preemptions, %lu hits, %lu shared, %lu failed, %lu timeouts\n",
                met.rounds, met.preemptions, met.hits, met.shared, met.failed, met.timeouts);
  }

  // Prompts share beginnings, so that the tree has branches.
  Ids prompt(int most) {
    Ids ids = counting(static_cast<int>(random_() % 20), static_cast<int>(random_() % 2));
    const int more = 1 + static_cast<int>(random_() % 30);
    for (int i = 0; i < more; ++i) {
      ids.push_back(static_cast<std::int32_t>(random_() % (i < 5 ? 2 : FakeBackend::kVocab)));
    }
    if (static_cast<int>(ids.size()) > most) ids.resize(static_cast<std::size_t>(most));
    return ids;
  }
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

  std::mt19937 random_{static_cast<unsigned>(GetParam())};
};

TEST_P(EngineStress, EveryTokenIsWhatTheRequestGetsAlone) {
  for (int round = 0; round < kRounds; ++round) {
    const int sequences = 1 + below(6);
    const int step_tokens = sequences + below(20);
    const int block_tokens = 1 + below(6);
    const int max_len = 64;
    const int least = (max_len + block_tokens - 1) / block_tokens;
    const int n_blocks = least + below(2 * least);
    FakeBackend backend(sequences, step_tokens, max_len, block_tokens, n_blocks);
    auto now = EngineOptions::Clock::now();
    EngineOptions options;
    options.max_model_len = max_len;
    options.max_step_tokens = step_tokens;
    options.overlap = below(4) > 0;
    options.prefix_cache = below(4) > 0;
    options.chunked_prefill = step_tokens < max_len || below(2) > 0;
    options.max_step_ms = below(2) * 5;
    options.now = [&now] { return now; };
    Engine engine(backend, nullptr, options);
    const bool faults = below(3) == 0;

    std::deque<Life> lives;
    while (lives.size() < 60 || engine.step()) {
      now += std::chrono::microseconds(below(3000));
      switch (below(5)) {
        case 0: {
          if (lives.size() == 60) break;
          Life& life = lives.emplace_back();
          life.prompt = prompt(max_len - 1);
          life.max_tokens = 1 + below(30);
          life.n = below(4) == 0 ? 1 + below(4) : 1;
          life.seed = random_();
          life.got.resize(static_cast<std::size_t>(life.n));
          Request request = request_of(life.prompt, life.max_tokens);
          request.n = life.n;
          request.sampling.seed = life.seed;
          request.prompt_logprobs = below(8) == 0;
          if (below(6) == 0) request.timeout = std::chrono::milliseconds(1 + below(60));
          life.id = engine.submit(std::move(request), [&life](const Event& event) {
            life.got[static_cast<std::size_t>(event.choice)].take(event);
          });
          break;
        }
        case 1:
          if (!lives.empty() && below(4) == 0) engine.cancel(lives[random_() % lives.size()].id);
          break;
        case 2:
          if (faults && below(6) == 0) backend.failing_steps.insert(backend.steps() + 1);
          break;
        default:
          engine.step();
      }
    }
    for (const Life& life : lives) {
      for (int choice = 0; choice < life.n; ++choice) {
        const Collected& got = life.got[static_cast<std::size_t>(choice)];
        EXPECT_EQ(got.n_finishes, 1);
        const int most = std::min(life.max_tokens, max_len - static_cast<int>(life.prompt.size()));
        Ids wanted = FakeBackend::expected(life.prompt, most,
                                           life.seed + static_cast<std::uint64_t>(choice));
        if (got.finish != FinishReason::kLength) {
          EXPECT_TRUE(got.finish == FinishReason::kCancelled ||
                      got.finish == FinishReason::kTimeout ||
                      (faults && got.finish == FinishReason::kError))
              << got.error;
          ASSERT_LE(got.ids.size(), wanted.size());
          wanted.resize(got.ids.size());
        }
        EXPECT_EQ(got.ids, wanted);
        EXPECT_TRUE(got.prompt.empty() || got.prompt.size() == life.prompt.size());
      }
    }
    const EngineCounters& counters = engine.counters();
    EXPECT_EQ(engine.blocks().n_available(), n_blocks);
    met.rounds += 1;
    met.preemptions += counters.preemptions;
    met.hits += counters.prefix_hits_tokens;
    met.shared += counters.shared_prompt_tokens;
    met.failed += counters.failed_steps;
    met.timeouts += counters.finished_timeout;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, EngineStress, testing::Range(1, 1 + kSeeds));

}  // namespace
}  // namespace moeopt
