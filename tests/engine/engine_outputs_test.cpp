// Grammars that decide what is sampled, and the logprobs of prompts.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/sampling.h"
#include "engine/engine.h"
#include "engine/engine_util.h"
#include "engine/fake_backend.h"

namespace moeopt {
namespace {

using Ids = std::vector<std::int32_t>;

// Allows one id more than was accepted, from `first` on; complete after `length`.
class Counting : public TokenConstraint {
 public:
  Counting(int first, int length) : next_(first), left_(length) {}
  void fill_mask(std::span<std::uint64_t> allowed) override {
    if (broken) throw std::runtime_error("the grammar is broken");
    std::ranges::fill(allowed, 0);
    if (left_ > 0)
      allowed[static_cast<std::size_t>(next_ / 64)] |= std::uint64_t{1} << (next_ % 64);
  }
  void accept(std::int32_t id) override {
    EXPECT_EQ(id, next_);
    next_ += 1;
    left_ -= 1;
  }
  bool complete() const override { return left_ == 0 && !never_complete; }

  bool broken = false, never_complete = false;

 private:
  int next_, left_;
};

Request constrained(std::unique_ptr<Counting> constraint, int max_tokens) {
  Request request = request_of({5, 6, 7}, max_tokens);
  request.constraints.push_back(std::move(constraint));
  return request;
}

TEST(Grammar, DecidesWhatIsSampledAndTheOthersAreLaunchedAhead) {
  FakeBackend backend(2, 8, 64, 4, 60);
  Engine engine(backend, nullptr, options_of(64, 8));
  int both = 0, only_free = 0;
  backend.on_step = [&](const StepPlan& plan) {
    both += plan.sequences().size() == 2 ? 1 : 0;
    only_free += plan.sequences().size() == 1 ? 1 : 0;
  };
  Collected free, bound;
  engine.submit(request_of({1, 2}, 30), collect_into(free));
  engine.submit(constrained(std::make_unique<Counting>(30, 10), 10), collect_into(bound));
  run(engine);
  EXPECT_EQ(bound.ids, (Ids{30, 31, 32, 33, 34, 35, 36, 37, 38, 39}));
  EXPECT_EQ(bound.finish, FinishReason::kLength);
  EXPECT_EQ(free.ids, FakeBackend::expected({1, 2}, 30));
  EXPECT_EQ(both, 10);
  EXPECT_EQ(backend.steps(), 30u) << "nothing waited for the grammar but its own sequence";
  EXPECT_GT(only_free, 9);
}

TEST(Grammar, EndsWhenItIsCompleteAndNothingMayFollow) {
  FakeBackend backend(2, 8, 64, 4, 60);
  Engine engine(backend, nullptr, options_of(64, 8));
  Collected got;
  engine.submit(constrained(std::make_unique<Counting>(30, 4), 10), collect_into(got));
  run(engine);
  EXPECT_EQ(got.ids, (Ids{30, 31, 32, 33}));
  EXPECT_EQ(got.finish, FinishReason::kStop);
}

TEST(Grammar, AFailingOneEndsItsSequenceAlone) {
  for (const bool broken : {true, false}) {
    FakeBackend backend(3, 8, 64, 4, 60);
    Engine engine(backend, nullptr, options_of(64, 8));
    auto constraint = std::make_unique<Counting>(30, 3);
    constraint->broken = broken;
    constraint->never_complete = true;
    Collected bad, good;
    engine.submit(constrained(std::move(constraint), 10), collect_into(bad));
    engine.submit(request_of({1, 2}, 12), collect_into(good));
    run(engine);
    EXPECT_EQ(bad.finish, FinishReason::kError);
    EXPECT_NE(bad.error.find("grammar"), std::string::npos);
    EXPECT_EQ(bad.n_finishes, 1);
    EXPECT_EQ(good.ids, FakeBackend::expected({1, 2}, 12));
  }
}

TEST(Grammar, SurvivesPreemption) {
  FakeBackend backend(3, 16, 40, 4, 11);
  Engine engine(backend, nullptr, options_of(40, 16));
  Collected old, bound;
  engine.submit(request_of(counting(8), 25), collect_into(old));
  engine.submit(constrained(std::make_unique<Counting>(10, 30), 30), collect_into(bound));
  run(engine);
  EXPECT_GT(engine.counters().preemptions, 0u);
  EXPECT_EQ(bound.ids, counting(30, 10));
  EXPECT_EQ(old.ids, FakeBackend::expected(counting(8), 25));
}

TEST(PromptLogprobs, AreThoseOfEachTokenGivenTheOnesBefore) {
  for (const int n_prompt : {1, 2, 30}) {
    FakeBackend backend(2, 8, 64, 4, 60);
    Engine engine(backend, nullptr, options_of(64, 8));
    const Ids prompt = counting(n_prompt, 3);
    answer(engine, request_of(prompt, 2));  // its blocks are there: scoring must not skip them
    Request request = request_of(prompt, 3);
    request.prompt_logprobs = true;
    request.sampling.n_logprobs = 2;
    request.n = 2;
    std::vector<Collected> got;
    engine.submit(std::move(request), collect_into(got));
    run(engine);
    ASSERT_EQ(got.size(), 2u);
    for (const Collected& one : got) {
      EXPECT_EQ(one.ids.size(), 3u);
      ASSERT_EQ(one.prompt.size(), prompt.size());
      EXPECT_TRUE(std::isnan(one.prompt[0].logprob));
      for (std::size_t i = 0; i < prompt.size(); ++i) {
        EXPECT_EQ(one.prompt[i].id, prompt[i]);
        if (i == 0) continue;
        const auto logits = FakeBackend::logits_at(prompt, static_cast<int>(i) - 1);
        const double sum = log_sum_exp(logits);
        EXPECT_FLOAT_EQ(one.prompt[i].logprob,
                        static_cast<float>(logits[static_cast<std::size_t>(prompt[i])] - sum));
        ASSERT_EQ(one.prompt_top[i].size(), 2u);
        EXPECT_EQ(one.prompt_top[i][0].id, argmax(logits));
      }
    }
  }
}

}  // namespace
}  // namespace moeopt
