#include "engine/step_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace moeopt {
namespace {

// A machine whose prefill costs a fixed part, a part a token and a part a token and position.
struct Machine {
  double fixed_ms, token_ms, context_of_token, decode_ms;

  double prefill_ms(int tokens, int position) const {
    const double context = tokens * (position + 0.5 * tokens);
    return fixed_ms + token_ms * (tokens + context / context_of_token);
  }
  StepMeasurement run(int tokens, int position, int decodes) const {
    StepMeasurement step;
    step.decode_sequences = decodes;
    step.prefill_tokens = tokens;
    step.prefill_context = tokens * (position + 0.5 * tokens);
    step.ms = (decodes > 0 ? decode_ms : 0) + (tokens > 0 ? prefill_ms(tokens, position) : 0);
    return step;
  }
};

TEST(StepBudget, WithoutLimitAStepIsFull) {
  StepBudget budget(0, 512, 1000);
  EXPECT_EQ(budget.tokens_at(0), 512);
  budget.record({0, 512, 0, 1e6});
  EXPECT_EQ(budget.tokens_at(100'000), 512);
}

TEST(StepBudget, StartsSmallAndStaysWithinItsBounds) {
  StepBudget budget(250, 512, 1000);
  EXPECT_EQ(budget.tokens_at(0), StepBudget::kFirstTokens);
  budget.record({0, 64, 64 * 32, 1e9});
  EXPECT_EQ(budget.tokens_at(0), 1) << "prefill never stands still";
  StepBudget small(250, 3, 1000);
  EXPECT_EQ(small.tokens_at(0), 3);
  small.record({0, 3, 0, 1e-3});
  EXPECT_EQ(small.tokens_at(0), 3) << "no more than a step may hold";
  StepBudget fast(250, 512, 1000);
  for (int i = 0; i < 20; ++i) fast.record({0, 512, 512 * 256, 0.01});
  EXPECT_EQ(fast.tokens_at(0), 512);
}

TEST(StepBudget, APromptOf30kTokensKeepsEveryStepWithinTheLimit) {
  for (const Machine& machine : {Machine{2, 2, 2000, 40}, Machine{20, 0.5, 800, 15},
                                 Machine{60, 6, 4000, 90}, Machine{0, 0.05, 500, 5}}) {
    // The engine's guess of the context is off by two both ways.
    for (const double guess : {0.5, 1.0, 2.0}) {
      StepBudget budget(250, 512, guess * machine.context_of_token);
      for (int i = 0; i < 5; ++i) budget.record(machine.run(0, 0, 3));
      int steps = 0, too_long = 0;
      double total = 0, longest = 0;
      for (int position = 0; position < 30'000; ++steps) {
        const int tokens = std::min(budget.tokens_at(position), 30'000 - position);
        ASSERT_GE(tokens, 1);
        const double share = machine.prefill_ms(tokens, position);
        too_long += share > 1.1 * 250 ? 1 : 0;
        longest = std::max(longest, share);
        total += share;
        budget.record(machine.run(tokens, position, 3));
        position += tokens;
      }
      EXPECT_LE(too_long, steps / 100) << longest;
      EXPECT_LE(longest, 2 * 250.0);
      // It is not bought by steps that are much too short either.
      const bool full = total / steps < 250 && steps <= 30'000 / 512 + 5;
      EXPECT_TRUE(full || total / steps > 0.5 * 250) << total / steps;
    }
  }
}

TEST(StepBudget, FollowsAMachineThatBecomesSlowerAtOnceAndFasterInTime) {
  const Machine fast{0, 1, 1e9, 10}, slow{0, 5, 1e9, 10};
  StepBudget budget(250, 1024, 1e9);
  budget.record(fast.run(0, 0, 1));
  for (int i = 0; i < 30; ++i) budget.record(fast.run(budget.tokens_at(0), 0, 1));
  EXPECT_NEAR(budget.tokens_at(0), StepBudget::kAim * 250, 10);
  budget.record(slow.run(250, 0, 1));
  budget.record(slow.run(budget.tokens_at(0), 0, 1));
  EXPECT_LT(budget.tokens_at(0), 60);
  for (int i = 0; i < 30; ++i) budget.record(fast.run(budget.tokens_at(0), 0, 1));
  EXPECT_NEAR(budget.tokens_at(0), 0.9 * StepBudget::kAim * 250, 10) << "one was beyond the limit";
}

TEST(StepBudget, HowNoisyAMachineIsDecidesHowNearTheLimitItAims) {
  struct Noise {
    double share, factor, least_mean, most_mean;  // of steps, of their time; of the limit
  };
  for (const Noise noise :
       {Noise{0, 1, 0.85, 0.92}, Noise{0.04, 1.35, 0.6, 0.8}, Noise{0.04, 1.6, 0.5, 0.72}}) {
    StepBudget budget(250, 512, 1e9);
    const Machine machine{0, 1, 1e9, 10};
    budget.record(machine.run(0, 0, 1));
    std::mt19937 random(1);
    int beyond = 0;
    double total = 0;
    constexpr int kSteps = 8000;
    for (int i = 0; i < 2 * kSteps; ++i) {
      const double factor = random() % 1000 < 1000 * noise.share ? noise.factor : 1;
      StepMeasurement step = machine.run(budget.tokens_at(0), 0, 1);
      step.ms = machine.decode_ms + factor * (step.ms - machine.decode_ms);
      budget.record(step);
      if (i < kSteps) continue;
      beyond += step.ms - machine.decode_ms > 250 ? 1 : 0;
      total += (step.ms - machine.decode_ms) / 250;
    }
    EXPECT_LE(beyond, kSteps / 100) << noise.factor;
    EXPECT_GE(total / kSteps, noise.least_mean) << noise.factor;
    EXPECT_LE(total / kSteps, noise.most_mean) << noise.factor;
  }
}

TEST(StepBudget, ASlowDecodeStepJustBeforeAPromptIsNotTakenForUsual) {
  StepBudget budget(250, 512, 1e9);
  const Machine machine{0, 1, 1e9, 90};
  for (int i = 0; i < 50; ++i) budget.record(machine.run(0, 0, 8));
  budget.record({8, 0, 0, 400});
  int beyond = 0;
  for (int i = 0; i < 1000; ++i) {
    const StepMeasurement step = machine.run(budget.tokens_at(0), 0, 8);
    budget.record(step);
    beyond += step.ms > 250 + machine.decode_ms ? 1 : 0;
  }
  EXPECT_LE(beyond, 10);
}

// Four tokens late in a long prompt take longer than the limit on a machine at half its speed, and
// a decode step takes several times what it took before the prompt, as the streams' contexts grow.
TEST(StepBudget, AMachineThatFallsToHalfItsSpeedLateInAPromptKeepsTheLimitAndGoesOn) {
  constexpr int kSteps = 4000;
  StepBudget budget(250, 512, 6000);
  const auto machine_at = [](int step) {
    const double decode_ms = 90 + 0.03 * step;
    return step < 1000 || step > 3000 ? Machine{5, 6, 6000, decode_ms}
                                      : Machine{10, 12, 6000, 2 * decode_ms};
  };
  for (int i = 0; i < 10; ++i) budget.record(machine_at(0).run(0, 0, 8));
  int beyond = 0, alone = 0;
  double total = 0;
  for (int i = 0; i < kSteps; ++i) {
    const Machine machine = machine_at(i);
    if (budget.wants_decode_alone()) {
      budget.record(machine.run(0, 29'000, 8));
      ++alone;
      continue;
    }
    const int tokens = budget.tokens_at(29'000);
    const double share = machine.prefill_ms(tokens, 29'000);
    budget.record(machine.run(tokens, 29'000, 8));
    beyond += share > 250 ? 1 : 0;
    total += share;
  }
  EXPECT_LE(beyond, kSteps / 100);
  EXPECT_GE(total / kSteps, 0.6 * 250);
  EXPECT_GE(alone, kSteps / 55);
  EXPECT_LE(alone, kSteps / 45);
}

TEST(StepBudget, DecodeStepsBehindAPromptAreNotOfTheNextOne) {
  StepBudget budget(250, 512, 1e9);
  const Machine machine{0, 1, 1e9, 10};
  budget.record(machine.run(0, 0, 8));
  for (int i = 0; i < StepBudget::kFirstAlone; ++i) {
    EXPECT_FALSE(budget.wants_decode_alone());
    budget.record(machine.run(100, 0, 8));
  }
  EXPECT_TRUE(budget.wants_decode_alone());
  for (int i = 0; i < 10; ++i) budget.record(machine.run(0, 0, 8));
  for (int i = 0; i < StepBudget::kFirstAlone; ++i) {
    EXPECT_FALSE(budget.wants_decode_alone());
    budget.record(machine.run(100, 0, 8));
  }
  EXPECT_TRUE(budget.wants_decode_alone()) << "a prompt's first come early";
  budget.record(machine.run(0, 0, 8));
  for (int i = 0; i < StepBudget::kAlone; ++i) {
    EXPECT_FALSE(budget.wants_decode_alone());
    budget.record(machine.run(100, 0, 8));
  }
  EXPECT_TRUE(budget.wants_decode_alone());
}

TEST(StepBudget, StepsThatNobodyWaitsForSayNothingOfTheLimit) {
  StepBudget budget(250, 512, 1e9), fresh(250, 512, 1e9);
  const Machine machine{0, 1, 1e9, 10};
  fresh.record(machine.run(200, 0, 0));
  for (int i = 0; i < 100; ++i) budget.record(machine.run(512, 0, 0));
  EXPECT_EQ(budget.tokens_at(0), fresh.tokens_at(0));
}

TEST(StepBudget, TheSameMeasurementsGiveTheSameAnswer) {
  StepBudget a(250, 512, 700), b(250, 512, 700);
  for (int i = 1; i < 50; ++i) {
    const StepMeasurement step{i % 3, i * 7 % 90, i * 1000.0, i * 13 % 400 + 0.25};
    a.record(step);
    b.record(step);
    ASSERT_EQ(a.tokens_at(i * 100), b.tokens_at(i * 100));
  }
}

TEST(ContextOfEqualCost, IsOfTheModel) {
  ModelSpec spec;
  EXPECT_GT(context_of_equal_cost(spec), 1e6) << "no layers, no attention";
  spec.hidden = 1024;
  LayerSpec layer;
  layer.attention.n_heads = 16;
  layer.attention.n_kv_heads = 4;
  layer.attention.qk_head_dim = layer.attention.v_head_dim = 64;
  layer.dense_intermediate = 4096;
  spec.layers = {layer, layer};
  // (1024 * 16 * 128 + 1024 * 4 * 128 + 3 * 1024 * 4096) / (16 * 128) / 2
  EXPECT_DOUBLE_EQ(context_of_equal_cost(spec), 3712);
}

}  // namespace
}  // namespace moeopt
