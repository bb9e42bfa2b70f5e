// Stop strings, however the text is cut into parts.
#include "text/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace moeopt {
namespace {

struct Outcome {
  std::string text;
  std::optional<std::size_t> hit;
  bool operator==(const Outcome&) const = default;
};

// The definition: the stop that ends first, the longest of those; the text before it.
Outcome expected(const std::vector<std::string>& stops, const std::string& text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::optional<std::size_t> best;
    for (std::size_t i = 0; i < stops.size(); ++i) {
      if (stops[i].empty() || !text.substr(0, end).ends_with(stops[i])) continue;
      if (!best || stops[i].size() > stops[*best].size()) best = i;
    }
    if (best) return {text.substr(0, end - stops[*best].size()), best};
  }
  return {text, std::nullopt};
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStop) {
  StopMatcher matcher({"</end>"});
  EXPECT_EQ(matcher.push("a <"), "a ");
  EXPECT_EQ(matcher.push("/en"), "");
  EXPECT_EQ(matcher.push("x </"), "</enx ");
  EXPECT_EQ(matcher.push("end> more"), "");
  EXPECT_EQ(matcher.hit(), 0U);
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, GivesTheRestAtTheEnd) {
  StopMatcher matcher({"stop"});
  EXPECT_EQ(matcher.push("one sto"), "one ");
  EXPECT_EQ(matcher.finish(), "sto");
  EXPECT_EQ(matcher.hit(), std::nullopt);
}

TEST(StopMatcher, FallsBackToTheLongestBorder) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.push("aaa"), "a");
  EXPECT_EQ(matcher.push("b"), "");
  EXPECT_EQ(matcher.hit(), 0U);
}

TEST(StopMatcher, WithoutStopsReturnsEverything) {
  StopMatcher matcher({"", ""});
  EXPECT_EQ(matcher.push("text"), "text");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, NamesTheStopThatEndsFirst) {
  StopMatcher matcher({"long one", "", "g o"});
  EXPECT_EQ(matcher.push("a long one"), "a lon");
  EXPECT_EQ(matcher.hit(), 2U);
}

TEST(StopMatcher, DoesNotDependOnHowTheTextComes) {
  std::mt19937 random(5);
  const auto pick = [&](std::size_t most) {
    std::string text(random() % (most + 1), 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  int hits = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops(random() % 4);
    for (auto& stop : stops) stop = pick(6);
    const std::string text = pick(24);
    StopMatcher matcher(stops);
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = std::min<std::size_t>(text.size() - at, 1 + random() % 5);
      out += matcher.push(std::string_view(text).substr(at, size));
      at += size;
    }
    out += matcher.finish();
    const Outcome outcome{out, matcher.hit()};
    EXPECT_EQ(outcome, expected(stops, text));
    hits += matcher.hit() ? 1 : 0;
  }
  EXPECT_GT(hits, 500);
}

TEST(StopMatcher, TakesLinearTimeOnARepeatedStop) {
  StopMatcher matcher({std::string(100'000, 'a') + "b"});
  std::string out;
  for (int i = 0; i < 300'000; ++i) out += matcher.push("a");
  EXPECT_EQ(out.size(), 200'000U);
  EXPECT_EQ(matcher.push("b"), "");
  EXPECT_EQ(matcher.hit(), 0U);
}

}  // namespace
}  // namespace moeopt
