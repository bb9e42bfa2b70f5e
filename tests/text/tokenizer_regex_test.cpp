// Regular expressions of tokenizer files, and NFC: the corners where libraries part ways.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/nfc.h"
#include "text/regex.h"
#include "text/regex_syntax.h"

namespace moeopt {
namespace {

using ::testing::ElementsAre;

// All matches, as "begin-end".
std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  const Regex regex(pattern, "FILE");
  RegexBudget budget(text.size());
  Regex::Search search(regex, text, budget);
  std::vector<std::string> out;
  for (RegexMatch match; search.next(match);) {
    out.push_back(std::to_string(match.begin) + "-" + std::to_string(match.end));
  }
  return out;
}

TEST(Regex, TakesNoEmptyMatchBehindAMatch) {
  EXPECT_THAT(matches("a*", "baac"), ElementsAre("0-0", "1-3", "4-4"));
  EXPECT_THAT(matches("(?=b)", "abab"), ElementsAre("1-1", "3-3"));
  EXPECT_THAT(matches("a*", "\u00E9a"), ElementsAre("0-0", "2-3"));
  EXPECT_THAT(matches("a*", ""), ElementsAre("0-0"));
}

TEST(Regex, EndsLinesAsRubyDoes) {
  EXPECT_THAT(matches("a$", "a\na"), ElementsAre("0-1", "2-3"));
  EXPECT_THAT(matches("^a", "a\na"), ElementsAre("0-1", "2-3"));
  EXPECT_THAT(matches("a.", "a\nab"), ElementsAre("2-4"));
}

TEST(Regex, FindsTrailingSpacesAsBefore) {
  // The one expression that is rewritten: it must match as it stands.
  EXPECT_THAT(matches(R"(\s+$)", " a  \n b \n\n  "), ElementsAre("2-4", "7-12"));
  EXPECT_THAT(matches(R"((?:\s+)$)", " a  \n b \n\n  "), ElementsAre("2-4", "7-12"));
}

TEST(Regex, KnowsTheSameSpaceAsOniguruma) {
  EXPECT_THAT(matches(R"(\s)", "\u180E\u0085\u200B\u3000"), ElementsAre("3-5", "8-11"));
}

TEST(Regex, KnowsLettersOfUnicode16) {
  EXPECT_THAT(matches(R"(\p{L})", "\u1C89\U0002EBF0"), ElementsAre("0-3", "3-7"));
  EXPECT_THAT(matches(R"(\P{L})", "\u1C89!"), ElementsAre("3-4"));
  EXPECT_THAT(matches(R"([^\p{L}])", "\u1C89!"), ElementsAre("3-4"));
}

TEST(RegexSyntax, WritesLiteralsOut) {
  EXPECT_EQ(translate_oniguruma("a#\\-", "FILE"), R"(a\x{23}\x{2D})");
  EXPECT_EQ(translate_oniguruma("(a|b){2,}", "FILE"), "(?:a|b){2,}");
  EXPECT_EQ(translate_oniguruma("a{,3}", "FILE"), "a{0,3}");
}

std::string nfc(std::string_view text) {
  std::string out;
  return normalize_nfc(text, out) ? out : std::string(text);
}

TEST(Nfc, ComposesAndOrders) {
  EXPECT_EQ(nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(nfc("b\u0301\u0316"), "b\u0316\u0301");
  EXPECT_EQ(nfc("\u1100\u1161\u11A8"), "\uAC01");
  EXPECT_EQ(nfc("\uAC00\u11A8"), "\uAC01");
  EXPECT_EQ(nfc("\u0958 \u212B"), "\u0915\u093C \u00C5");
  EXPECT_EQ(nfc("a\u0300\u4F60\u0301e\u0301"), "\u00E0\u4F60\u0301\u00E9");
}

TEST(Nfc, LeavesWhatTheLibrarysTablesDoNotKnow) {
  EXPECT_EQ(nfc("\u1DF6\u0316"), "\u1DF6\u0316");
  EXPECT_EQ(nfc("b\u0301\u0898"), "b\u0301\u0898");
  EXPECT_EQ(nfc("\U00011935\U00011930"), "\U00011935\U00011930");
}

}  // namespace
}  // namespace moeopt
