// Putting pieces together around matches: the library's own example, "The-final--countdown".
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/split_behavior.h"

namespace moeopt {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> split(std::string_view text, SplitBehavior behavior, bool invert = false) {
  std::vector<std::string> pieces;
  SplitFolder folder(behavior, [&](std::size_t begin, std::size_t end) {
    pieces.emplace_back(text.substr(begin, end - begin));
  });
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '-') continue;
    if (done != at) folder.add(done, at, invert);
    folder.add(at, at + 1, !invert);
    done = at + 1;
  }
  if (done != text.size()) folder.add(done, text.size(), invert);
  folder.finish();
  return pieces;
}

TEST(SplitFolder, FollowsEachBehavior) {
  const std::string_view text = "The-final--countdown";
  EXPECT_THAT(split(text, SplitBehavior::kRemoved), ElementsAre("The", "final", "countdown"));
  EXPECT_THAT(split(text, SplitBehavior::kIsolated),
              ElementsAre("The", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(split(text, SplitBehavior::kMergedWithPrevious),
              ElementsAre("The-", "final-", "-", "countdown"));
  EXPECT_THAT(split(text, SplitBehavior::kMergedWithNext),
              ElementsAre("The", "-final", "-", "-countdown"));
  EXPECT_THAT(split(text, SplitBehavior::kContiguous),
              ElementsAre("The", "-", "final", "--", "countdown"));
}

TEST(SplitFolder, HandlesMatchesAtTheEnds) {
  EXPECT_THAT(split("--a--", SplitBehavior::kMergedWithPrevious), ElementsAre("-", "-", "a-", "-"));
  EXPECT_THAT(split("--a--", SplitBehavior::kMergedWithNext), ElementsAre("-", "-a", "-", "-"));
  EXPECT_THAT(split("--a--", SplitBehavior::kContiguous), ElementsAre("--", "a", "--"));
  EXPECT_THAT(split("--a--", SplitBehavior::kRemoved, true), ElementsAre("-", "-", "-", "-"));
  EXPECT_THAT(split("a--b", SplitBehavior::kMergedWithNext, true), ElementsAre("a-", "-", "b"));
  EXPECT_THAT(split("", SplitBehavior::kIsolated), ElementsAre());
}

}  // namespace
}  // namespace moeopt
