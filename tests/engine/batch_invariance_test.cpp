// A request's tokens and its logits' bits are the same alone and among any others: with a real
// model (a tiny random one) on the CPU's own kernels, with prefix cache or without, in chunks of
// any size, through preemption, one step ahead or not.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <random>

#include "checkpoint/model_folder.h"
#include "cpu/cpu_backend.h"
#include "engine/engine.h"
#include "engine/engine_util.h"
#include "golden_test_name.h"
#include "model/parse.h"

namespace moeopt {
namespace {

using Ids = std::vector<std::int32_t>;

// What a choice gave: ids, and the bits of every logprob.
struct Given {
  Ids ids;
  std::vector<std::uint32_t> bits;
  bool operator==(const Given&) const = default;
};

std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

struct Asked {
  Ids prompt;
  SamplingParams sampling;
  int max_tokens = 0, n = 1;
};

struct Conditions {
  int sequences, step_tokens, kv_blocks;
  bool overlap, prefix_cache;
};

class BatchInvariance : public testing::TestWithParam<const char*> {
 protected:
  BatchInvariance() {
    const auto folder = std::filesystem::path(MOEOPT_SOURCE_DIR) / "tests" / "golden" / GetParam();
    const ModelFolder model = resolve_model(folder.string());
    spec_ = parse_model_spec(read_config(model), "config.json");
    source_ = open_tensors(model);
  }

  static constexpr int kLength = 48, kBlockTokens = 4;

  Asked random_request() {
    Asked asked;
    const bool shared = random_() % 2 == 0;  // half of the prompts begin alike
    const int n = 1 + static_cast<int>(random_() % 24);
    for (int i = 0; i < n; ++i) {
      const auto id = shared && i < 10 ? static_cast<unsigned>(i) : random_();
      asked.prompt.push_back(static_cast<std::int32_t>(id % static_cast<unsigned>(spec_.vocab)));
    }
    asked.max_tokens = 1 + static_cast<int>(random_() % 20);
    asked.sampling.seed = random_();
    asked.sampling.temperature = random_() % 4 == 0 ? 0.0f : 1.0f;
    asked.sampling.top_p = 0.95f;
    asked.sampling.frequency_penalty = random_() % 2 == 0 ? 0.5f : 0.0f;
    asked.sampling.repetition_penalty = random_() % 2 == 0 ? 1.3f : 1.0f;
    asked.sampling.n_logprobs = 3;
    asked.n = random_() % 3 == 0 ? 2 : 1;
    return asked;
  }

  std::vector<std::vector<Given>> run(const std::vector<Asked>& requests,
                                      const Conditions& conditions) {
    ExecutionLimits limits;
    limits.max_sequences = conditions.sequences;
    limits.max_step_tokens = conditions.step_tokens;
    limits.max_logit_rows = conditions.sequences;
    limits.max_model_len = kLength;
    limits.block_tokens = kBlockTokens;
    limits.kv_blocks = conditions.kv_blocks;
    cpu::CpuBackend backend(spec_, *source_, limits, cpu::make_fast_ops(2, ""));
    EngineOptions options;
    options.max_model_len = kLength;
    options.max_step_tokens = conditions.step_tokens;
    options.overlap = conditions.overlap;
    options.prefix_cache = conditions.prefix_cache;
    Engine engine(backend, nullptr, options);
    std::vector<std::vector<Given>> given(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      Request request = request_of(requests[i].prompt, requests[i].max_tokens);
      request.sampling = requests[i].sampling;
      request.n = requests[i].n;
      given[i].resize(static_cast<std::size_t>(request.n));
      engine.submit(std::move(request), [&out = given[i]](const Event& event) {
        if (event.token == nullptr) return;
        Given& choice = out[static_cast<std::size_t>(event.choice)];
        choice.ids.push_back(event.token->id);
        choice.bits.push_back(bits_of(event.token->logprob));
        for (const TokenLogprob& top : event.token->top) {
          choice.bits.push_back(bits_of(top.logprob));
        }
      });
      for (auto steps = random_() % 4; steps > 0; --steps) engine.step();
    }
    while (engine.step()) {
    }
    preemptions_ += engine.counters().preemptions;
    hits_ += engine.counters().prefix_hits_tokens;
    EXPECT_EQ(engine.blocks().n_available(), conditions.kv_blocks);
    return given;
  }

  ModelSpec spec_;
  std::unique_ptr<TensorSource> source_;
  std::mt19937 random_{11};
  std::uint64_t preemptions_ = 0, hits_ = 0;
};

TEST_P(BatchInvariance, TokensAndLogprobsAreThoseOfTheRequestAlone) {
  constexpr int kLeastBlocks = kLength / kBlockTokens;
  for (int round = 0; round < 4; ++round) {
    std::vector<Asked> requests;
    std::vector<std::vector<Given>> alone;
    for (int i = 0; i < 8; ++i) {
      requests.push_back(random_request());
      alone.push_back(run({requests.back()}, {1, kLength, kLeastBlocks, false, false}).front());
    }
    for (const bool prefix_cache : {false, true}) {
      for (const int step_tokens : {4, 7, 64}) {
        const Conditions conditions{4, step_tokens, kLeastBlocks + 5, round % 2 == 0, prefix_cache};
        EXPECT_EQ(run(requests, conditions), alone)
            << step_tokens << " tokens a step, prefix cache " << prefix_cache;
      }
    }
  }
  EXPECT_GT(preemptions_, 10u) << "the pool was to be too small";
  EXPECT_GT(hits_, 50u);
}

INSTANTIATE_TEST_SUITE_P(Models, BatchInvariance,
                         testing::Values("qwen3", "mixtral", "deepseek-v3", "deepseek-v3-fp8"),
                         golden_test_name);

}  // namespace
}  // namespace moeopt
