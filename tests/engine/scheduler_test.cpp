// What a step holds: decode first, prompts shared out fairly, whole prompts without chunks.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>

#include "engine/engine_util.h"

namespace moeopt {
namespace {

class SchedulerTest : public testing::Test {
 protected:
  // A sequence with `n_prompt` tokens of which `n_launched` went already.
  Sequence& add(int n_prompt, int n_launched = 0) {
    auto sequence = std::make_unique<Sequence>();
    sequence->state = std::make_shared<RequestState>();
    sequence->state->request = request_of(counting(n_prompt), 10);
    sequence->tokens = counting(n_prompt);
    sequence->slot = static_cast<int>(running_.size());
    sequence->n_prefill = n_prompt;
    sequence->n_launched = n_launched;
    sequence->table.blocks.assign(4, sequence->slot);
    running_.push_back(std::move(sequence));
    return *running_.back();
  }
  Sequence& streaming() {
    Sequence& sequence = add(3, 3);
    sequence.n_samples_launched = 1;
    return sequence;
  }
  // Slot to tokens.
  std::map<int, int> schedule(const SchedulerLimits& limits) {
    schedule_step(running_, limits, budget_, plan_, step_);
    std::map<int, int> tokens;
    for (const ScheduledStep::Part& part : step_.parts) {
      tokens[part.sequence->slot] = part.n_tokens;
    }
    return tokens;
  }
  using Shares = std::map<int, int>;

  std::vector<std::unique_ptr<Sequence>> running_;
  StepBudget budget_{0, 100, 1000};
  StepPlan plan_{{8, 200, 4, 8}};
  ScheduledStep step_;
  SchedulerLimits limits_{100, 16, true};
};

TEST_F(SchedulerTest, DecodesFirst) {
  add(500);
  streaming();
  streaming();
  EXPECT_EQ(schedule({10, 16, true}), (Shares{{0, 8}, {1, 1}, {2, 1}}));
  EXPECT_EQ(plan_.sequences()[0].slot, 1) << "decodes come first in the plan too";
  EXPECT_EQ(step_.n_prefill_chunks, 1);
}

TEST_F(SchedulerTest, AShortPromptIsNotStuckBehindALongOne) {
  add(30'000);
  add(30'000);
  add(20);
  EXPECT_EQ(schedule(limits_), (Shares{{0, 50}, {1, 30}, {2, 20}}));
}

TEST_F(SchedulerTest, EqualPromptsGoOneAfterTheOther) {
  add(300);
  add(300);
  add(300);
  Shares first = schedule(limits_);
  EXPECT_EQ(first[0] + first[1], 100);
  EXPECT_GE(first[0], 50);
  EXPECT_EQ(first.count(2), 0u);
}

TEST_F(SchedulerTest, TheOldestAlwaysGetsOnUnderASteadyStreamOfShortOnes) {
  Sequence& old = add(5000);
  for (int i = 0; i < 7; ++i) add(90);
  for (int step = 0; step < 10; ++step) {
    const int before = old.n_launched;
    schedule(limits_);
    EXPECT_GE(old.n_launched - before, 50);
    for (const auto& sequence : running_) {
      if (sequence.get() != &old) sequence->n_launched = 0;  // another just like it
    }
  }
}

TEST_F(SchedulerTest, ALonePromptGetsAllOfTheStep) {
  add(300);
  EXPECT_EQ(schedule(limits_), (Shares{{0, 100}}));
}

TEST_F(SchedulerTest, TheTimeBoundIsForStreamsThatWait) {
  budget_ = StepBudget(100, 100, 1e9);
  // 40 tokens take all of the time that is aimed at.
  for (int i = 0; i < 20; ++i) budget_.record({0, 40, 0, StepBudget::kAim * 100});
  Sequence& prompt = add(300);
  EXPECT_EQ(schedule(limits_), (Shares{{0, 100}}));
  prompt.n_launched = 0;
  streaming();
  const Shares alone = schedule(limits_);
  EXPECT_NEAR(alone.at(0), 40, 1);
  EXPECT_EQ(alone.at(1), 1);
  prompt.n_launched = 0;
  add(300);
  const Shares both = schedule(limits_);
  EXPECT_NEAR(both.at(0) + both.at(2), 40, 1) << "together";
  EXPECT_GE(both.at(0), 19);
}

TEST_F(SchedulerTest, NowAndThenAStepIsDecodeAlone) {
  for (const double limit_ms : {100.0, 0.0}) {
    running_.clear();
    budget_ = StepBudget(limit_ms, 100, 1e9);
    add(3000);
    for (int i = 0; i < StepBudget::kFirstAlone; ++i) budget_.record({1, 40, 0, 50});
    EXPECT_EQ(schedule(limits_).count(0), 1u) << "nobody waits";
    streaming();
    EXPECT_EQ(schedule(limits_).count(0), limit_ms > 0 ? 0u : 1u);
    EXPECT_EQ(step_.work.decode_sequences, 1);
    budget_.record({1, 0, 0, 10});
    EXPECT_EQ(schedule(limits_).count(0), 1u);
  }
}

TEST_F(SchedulerTest, WithoutChunksPromptsAreWhole) {
  const SchedulerLimits whole{100, 16, false};
  add(60);
  add(60);
  add(30);
  streaming();
  EXPECT_EQ(schedule(whole), (Shares{{0, 60}, {2, 30}, {3, 1}}));
  EXPECT_EQ(step_.n_prefill_chunks, 0);
}

TEST_F(SchedulerTest, WithoutChunksAPromptThatFillsAStepCrowdsOutDecodes) {
  const SchedulerLimits whole{100, 16, false};
  Sequence& prompt = add(100);
  streaming();
  EXPECT_EQ(schedule(whole), (Shares{{0, 100}}));
  EXPECT_FALSE(prompt.in_prefill());
  EXPECT_EQ(schedule(whole), (Shares{{0, 1}, {1, 1}}));
}

TEST_F(SchedulerTest, ScoredRowsStayWithinTheBackendsLogitRows) {
  Sequence& scored = add(50);
  scored.scores_prompt = true;
  streaming();
  streaming();
  const SchedulerLimits limits{100, 10, true};
  EXPECT_EQ(schedule(limits), (Shares{{0, 8}, {1, 1}, {2, 1}}));
  EXPECT_EQ(plan_.samples().size(), 10u);
  EXPECT_EQ(step_.scored.size(), 8u);
  scored.n_launched = 48;
  schedule(limits);
  ASSERT_EQ(step_.scored.size(), 1u) << "the last token's row scores nothing, it is sampled";
  EXPECT_EQ(step_.scored[0].position, 48);
  EXPECT_EQ(step_.sampled.size(), 3u);
}

TEST_F(SchedulerTest, FinishedSequencesGetNothing) {
  add(50).finished = true;
  streaming().finished = true;
  EXPECT_TRUE(schedule(limits_).empty());
}

}  // namespace
}  // namespace moeopt
