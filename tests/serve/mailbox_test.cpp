#include "serve/mailbox.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace moeopt::serve {
namespace {

Letter letter_of(std::string text, FinishReason finish = FinishReason::kNone) {
  Letter letter;
  letter.text = std::move(text);
  letter.finish = finish;
  return letter;
}

TEST(Mailbox, WakesOnceUntilItIsRead) {
  Mailbox mailbox(1 << 20);
  int woken = 0;
  mailbox.on_mail([&woken] { ++woken; }, false);
  mailbox.push(letter_of("a"));
  mailbox.push(letter_of("b"));
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(mailbox.take().size(), 2u);
  EXPECT_TRUE(mailbox.take().empty());
  mailbox.push(letter_of("c"));
  EXPECT_EQ(woken, 2);
}

TEST(Mailbox, WakesAtTheEndAloneWhereThatIsEnough) {
  Mailbox mailbox(1 << 20);
  int woken = 0;
  mailbox.on_mail([&woken] { ++woken; }, true);
  mailbox.push(letter_of("a"));
  EXPECT_EQ(woken, 0);
  mailbox.push(letter_of("b", FinishReason::kStop));
  EXPECT_EQ(woken, 1);
}

TEST(Mailbox, KeepsNothingBeyondItsLimit) {
  Mailbox mailbox(10'000);
  int woken = 0;
  mailbox.on_mail([&woken] { ++woken; }, false);
  for (int i = 0; i < 10; ++i) mailbox.push(letter_of(std::string(2000, 'x')));
  EXPECT_TRUE(mailbox.overflowed());
  EXPECT_TRUE(mailbox.take().empty());
  EXPECT_GE(woken, 2) << "the reader is told of the overflow, though it had been told of mail";
}

TEST(Mailbox, OwnsWhatAnEventPointsTo) {
  Letter letter;
  {
    std::string text = "text";
    std::vector<TokenLogprob> top = {{3, -0.5f}};
    const SampledToken token{0, 7, -0.1f, top, true};
    Event event{1};
    event.choice = 2;
    event.text = text;
    event.token = &token;
    letter = Letter(4, event);
  }
  EXPECT_EQ(letter.prompt, 4);
  EXPECT_EQ(letter.choice, 2);
  EXPECT_EQ(letter.text, "text");
  ASSERT_TRUE(letter.has_token);
  EXPECT_EQ(letter.token.id, 7);
  EXPECT_EQ(letter.token.top[0].id, 3);
}

TEST(Mailbox, LosesNothingBetweenThreads) {
  Mailbox mailbox(1 << 26);
  std::atomic<int> woken{0};
  mailbox.on_mail([&woken] { ++woken; }, false);
  constexpr int kLetters = 20'000;
  std::thread writer([&mailbox] {
    for (int i = 0; i < kLetters; ++i) mailbox.push(letter_of(std::to_string(i)));
  });
  int next = 0;
  while (next < kLetters) {
    for (const Letter& letter : mailbox.take()) EXPECT_EQ(letter.text, std::to_string(next++));
  }
  writer.join();
  EXPECT_GT(woken, 0);
}

}  // namespace
}  // namespace moeopt::serve
