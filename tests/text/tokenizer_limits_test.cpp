// Time and memory on texts and files made to waste them. Nothing here measures time: a quadratic
// step would take minutes where a second is enough.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "text/nfc.h"
#include "text/tokenizer_util.h"

namespace moeopt::testing {
namespace {

constexpr std::size_t kLong = 100'000;

std::string repeated(std::string_view unit, std::size_t size_bytes) {
  std::string text;
  while (text.size() < size_bytes) text += unit;
  return text;
}

Tokenizer with_split(const std::string& pattern) {
  Json json = tokenizer_json("qwen2");
  json["normalizer"] = nullptr;
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern;
  return Tokenizer::from_json(json.dump(), "FILE");
}

class TokenizerLimits : public ::testing::TestWithParam<std::string> {};

TEST_P(TokenizerLimits, LongRunsRoundTrip) {
  const Tokenizer& tokenizer = shared_tokenizer(GetParam());
  for (const std::string_view unit :
       {"a", " ", "\n", "1", "!", "你", "ab", "\u0301", " \n", "<s"}) {
    const std::string text = repeated(unit, kLong);
    const auto ids = tokenizer.encode(text, false);
    // The families that keep every byte.
    if (GetParam() == "qwen2" || GetParam() == "deepseek_v2" || GetParam() == "mixtral") {
      EXPECT_EQ(tokenizer.decode(ids, false), text) << unit;
    }
  }
  const std::string spaces_then_text = repeated(" ", kLong) + "中";
  EXPECT_FALSE(tokenizer.encode(spaces_then_text, false).empty());
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerLimits, ::testing::ValuesIn(tokenizer_families()),
                         [](const auto& family) { return family.param; });

TEST(TokenizerRegex, SearchesAcrossWindows) {
  // A match that is longer than the first window, and one that begins at its very end.
  for (const std::size_t size : {1000U, 1023U, 1024U, 1025U, 2047U, 2048U, 5000U, 100'000U}) {
    const Tokenizer tokenizer = with_split("b+c?");
    const std::string text = repeated("a", size) + repeated("b", size) + "c" + repeated("a", size);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false), false), text);
    const Tokenizer& reference = shared_tokenizer("qwen2");
    auto ids = reference.encode(repeated("a", size), false);
    const auto tail = ids;
    const auto middle = reference.encode(repeated("b", size) + "c", false);
    ids.insert(ids.end(), middle.begin(), middle.end());
    ids.insert(ids.end(), tail.begin(), tail.end());
    EXPECT_EQ(tokenizer.encode(text, false), ids) << size;
  }
}

TEST(TokenizerRegex, EndsHostileExpressions) {
  const std::string text = repeated("a", 20'000);
  for (const char* pattern : {"(?:a+a+)+b", "(?:a|a)*b", "a*a*a*a*a*b", "(?:a*)*b", "(?=(?:a+)+b)a",
                              "a+b", "(?:a|aa)+$b", "(?:(?:a+)+)+b", "a*+a*+b|(?:a*a*+)+b"}) {
    const Tokenizer tokenizer = with_split(pattern);
    try {
      EXPECT_FALSE(tokenizer.encode(text, false).empty()) << pattern;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidData) << error.what();
      EXPECT_THAT(error.what(), ::testing::HasSubstr("regular expression"));
    }
  }
}

TEST(TokenizerNormalizer, RefusesTextsThatGrowWithoutBound) {
  Json json = tokenizer_json("qwen2");
  const Json grow = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(1000, 'a')}};
  json["normalizer"] = {{"type", "Sequence"},
                        {"normalizers", Json::array({grow, grow, grow, grow})}};
  json["added_tokens"] = Json::array();
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "FILE");
  EXPECT_THROW(tokenizer.encode(repeated("a", 10'000), false), Error);
}

TEST(TokenizerDecoder, RefusesTokensThatGrowWithoutBound) {
  Json json = tokenizer_json("mixtral");
  const Json grow = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(1000, 'a')}};
  json["decoder"] = {{"type", "Sequence"}, {"decoders", Json::array({grow, grow, grow, grow})}};
  EXPECT_THAT(refusal(json), ::testing::HasSubstr("FILE: decoder.decoders[1]"));
}

TEST(TokenizerNormalizer, OrdersManyMarksInLinearTime) {
  const std::string marks = repeated("\u0301\u0316", kLong);  // classes 230 and 220, in turn
  std::string out;
  ASSERT_TRUE(normalize_nfc(marks, out));
  ASSERT_EQ(out.size(), marks.size());
  EXPECT_EQ(out.substr(0, 4), "\u0316\u0316");
  EXPECT_EQ(out.substr(out.size() - 4), "\u0301\u0301");
}

TEST(TokenizerThreads, EncodeAtTheSameTime) {
  const Tokenizer& tokenizer = shared_tokenizer("qwen2");
  std::vector<std::vector<std::int32_t>> expected;
  for (const std::string& text : tokenizer_texts())
    expected.push_back(tokenizer.encode(text, true));
  std::vector<int> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < wrong.size(); ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = 0; i < expected.size(); ++i) {
          const std::size_t at = (i + t * 300) % expected.size();
          wrong[t] += tokenizer.encode(tokenizer_texts()[at], true) == expected[at] ? 0 : 1;
        }
      });
    }
  }
  EXPECT_EQ(wrong, (std::vector<int>{0, 0, 0, 0}));
}

}  // namespace
}  // namespace moeopt::testing
