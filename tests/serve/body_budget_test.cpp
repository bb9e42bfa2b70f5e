#include "serve/http/body_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>

namespace moeopt::serve {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST(BodyBudget, AnAnnouncedLengthTakesNothing) {
  BodyBudget budget(8 * kMiB);
  BodyShare share(budget);
  share.announce(8 * kMiB);
  EXPECT_EQ(budget.used(), 0U);
  EXPECT_TRUE(share.append("x"));
  EXPECT_LE(budget.used(), 4096U);
}

TEST(BodyBudget, TakesWhatArrivesAndNoMoreThanTheLength) {
  BodyBudget budget(kMiB);
  const std::string piece(1000, 'a');
  std::string expected;
  {
    BodyShare share(budget);
    share.announce(300 * piece.size());
    for (int i = 0; i < 300; ++i) {
      ASSERT_TRUE(share.append(piece));
      expected += piece;
      EXPECT_GE(budget.used(), expected.size());
      EXPECT_LE(budget.used(), std::max<std::size_t>(4096, 2 * expected.size()));
    }
    EXPECT_EQ(budget.used(), expected.size());
    const std::string text = share.take_text();
    EXPECT_EQ(text, expected);
    EXPECT_GE(budget.used(), text.capacity()) << "held until it is dropped";
  }
  EXPECT_EQ(budget.used(), 0U);
}

TEST(BodyBudget, RefusesWhatDoesNotFitAndKeepsWhatDoes) {
  BodyBudget budget(100'000);
  BodyShare first(budget), second(budget);
  EXPECT_TRUE(first.append(std::string(60'000, 'a')));
  EXPECT_TRUE(second.append(std::string(40'000, 'b')));
  EXPECT_FALSE(second.append("b"));
  EXPECT_EQ(budget.used(), 100'000U);
  EXPECT_EQ(second.take_text(), std::string(40'000, 'b'));
  first.drop();
  EXPECT_EQ(budget.used(), 40'000U);
  EXPECT_TRUE(first.append(std::string(60'000, 'c')));
}

TEST(BodyBudget, TheOneThatCameNoFurtherForTheLongestTimeGivesWay) {
  BodyBudget budget(200'000, std::chrono::seconds(0));
  BodyShare first(budget), second(budget), third(budget);
  int told = 0;
  first.on_give_way([&] { told += 1; });
  second.on_give_way([&] { told += 10; });
  EXPECT_TRUE(first.append(std::string(60'000, 'a')));
  EXPECT_TRUE(second.append(std::string(60'000, 'b')));
  EXPECT_TRUE(first.append(std::string(10'000, 'a'))) << "64 KiB are there: behind the second now";
  EXPECT_TRUE(third.append(std::string(50'000, 'c')));
  EXPECT_EQ(told, 10);
  EXPECT_TRUE(second.gave_way());
  EXPECT_FALSE(second.append("b"));
  EXPECT_FALSE(first.gave_way());
  EXPECT_EQ(first.take_text(), std::string(60'000, 'a') + std::string(10'000, 'a'));
}

TEST(BodyBudget, AWholeTextDoesNotGiveWay) {
  BodyBudget budget(100'000, std::chrono::seconds(0));
  BodyShare whole(budget), late(budget);
  EXPECT_TRUE(whole.append(std::string(60'000, 'a')));
  const std::string text = whole.take_text();
  EXPECT_FALSE(late.append(std::string(60'000, 'b')));
  EXPECT_FALSE(whole.gave_way());
  EXPECT_FALSE(late.append(std::string(100'001, 'b'))) << "more than there is at all";
}

TEST(BodyBudget, WhoComesFastEnoughDoesNotGiveWay) {
  BodyBudget budget(100'000, std::chrono::hours(1));
  BodyShare first(budget), second(budget);
  EXPECT_TRUE(first.append(std::string(60'000, 'a')));
  EXPECT_FALSE(second.append(std::string(60'000, 'b')));
  EXPECT_FALSE(first.gave_way());
}

}  // namespace
}  // namespace moeopt::serve
