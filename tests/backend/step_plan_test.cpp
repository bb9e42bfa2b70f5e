#include "backend/step_plan.h"

#include <gtest/gtest.h>

#include <vector>

namespace moeopt {
namespace {

using Ids = std::vector<std::int32_t>;

constexpr StepCapacity kCapacity = {3, 10, 4, 2};

std::vector<TokenRef> literals(const Ids& ids) {
  std::vector<TokenRef> tokens;
  for (const std::int32_t id : ids) tokens.push_back(TokenRef::literal(id));
  return tokens;
}

StepPlan filled() {
  StepPlan plan(kCapacity);
  plan.clear();
  EXPECT_EQ(plan.add_sequence(2, 7, literals({5, 6, 7}), Ids{9, 8, 7}), 0);
  const TokenRef last = TokenRef::last_sample_of(0);
  EXPECT_EQ(plan.add_sequence(0, 0, {&last, 1}, Ids{1}, 1), 3);
  plan.add_sample(2, 2, kSampleToken);
  plan.add_sample(3, 0, kSampleToken | kWantLogits);
  plan.add_copy(4, 5);
  plan.set_signal_kv(true);
  return plan;
}

TEST(TokenRef, LiteralsAndSlots) {
  EXPECT_TRUE(TokenRef::literal(0).is_literal());
  EXPECT_EQ(TokenRef::literal(17).value, 17);
  for (const int slot : {0, 1, 255}) {
    EXPECT_FALSE(TokenRef::last_sample_of(slot).is_literal());
    EXPECT_EQ(TokenRef::last_sample_of(slot).slot(), slot);
  }
}

void expect_filled(const StepPlan& plan) {
  ASSERT_EQ(plan.tokens().size(), 4u);
  EXPECT_EQ(plan.tokens()[1].value, 6);
  EXPECT_EQ(plan.tokens()[3].slot(), 0);
  ASSERT_EQ(plan.sequences().size(), 2u);
  EXPECT_EQ(plan.sequences()[0].slot, 2);
  EXPECT_EQ(plan.sequences()[0].first_position, 7);
  EXPECT_EQ(plan.sequences()[0].n_tokens, 3);
  EXPECT_EQ(plan.sequences()[1].first_token, 3);
  EXPECT_EQ(plan.sequences()[1].microbatch, 1);
  EXPECT_EQ(Ids(plan.block_table(0).begin(), plan.block_table(0).end()), (Ids{9, 8, 7, -1}));
  EXPECT_EQ(Ids(plan.block_table(1).begin(), plan.block_table(1).end()), (Ids{1, -1, -1, -1}));
  ASSERT_EQ(plan.samples().size(), 2u);
  EXPECT_EQ(plan.samples()[1].token, 3);
  EXPECT_EQ(plan.samples()[1].flags, kSampleToken | kWantLogits);
  ASSERT_EQ(plan.copies().size(), 1u);
  EXPECT_EQ(plan.copies()[0].to, 5);
  EXPECT_TRUE(plan.signal_kv());
}

TEST(StepPlan, KeepsWhatWasAdded) {
  expect_filled(filled());
}

TEST(StepPlan, ClearForgetsAll) {
  StepPlan plan = filled();
  plan.clear();
  EXPECT_TRUE(plan.tokens().empty());
  EXPECT_TRUE(plan.sequences().empty());
  EXPECT_TRUE(plan.samples().empty());
  EXPECT_TRUE(plan.copies().empty());
  EXPECT_FALSE(plan.signal_kv());
}

TEST(StepPlan, AssignCopiesTheBytes) {
  const StepPlan from = filled();
  StepPlan to(kCapacity);
  to.assign(from);
  expect_filled(to);
  EXPECT_TRUE(std::ranges::equal(from.bytes(), to.bytes()));
  EXPECT_NE(from.bytes().data(), to.bytes().data());
}

TEST(StepPlan, ArraysLieAtOffsetsOfTheCapacityAlone) {
  StepPlan empty(kCapacity);
  empty.clear();
  const StepPlan full = filled();
  ASSERT_EQ(empty.bytes().size(), full.bytes().size());
  const auto offset = [](const StepPlan& plan, const void* data) {
    return static_cast<const std::byte*>(data) - plan.bytes().data();
  };
  EXPECT_EQ(offset(empty, empty.tokens().data()), offset(full, full.tokens().data()));
  EXPECT_EQ(offset(empty, empty.sequences().data()), offset(full, full.sequences().data()));
  EXPECT_EQ(offset(empty, empty.samples().data()), offset(full, full.samples().data()));
  EXPECT_EQ(offset(empty, empty.copies().data()), offset(full, full.copies().data()));
}

TEST(StepPlanDeathTest, MoreThanTheCapacityEndsTheProgram) {
  StepPlan plan = filled();
  EXPECT_DEATH(plan.add_sequence(3, 0, literals({1}), Ids{1}), "capacity_.sequences");
  EXPECT_DEATH(plan.add_sequence(1, 0, literals(Ids(7, 1)), Ids{1}), "capacity_.tokens");
  EXPECT_DEATH(plan.add_sequence(1, 0, literals({1}), Ids(5, 1)), "blocks_per_sequence");
  EXPECT_DEATH(plan.add_sequence(1, 0, {}, Ids{1}), "n_tokens > 0");
  EXPECT_DEATH(plan.add_sample(4, 0, kSampleToken), "n_tokens");
  plan.add_copy(1, 2);
  EXPECT_DEATH(plan.add_copy(1, 2), "capacity_.copies");
}

}  // namespace
}  // namespace moeopt
