// Added and special tokens, and text that only looks like them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "text/tokenizer_util.h"

namespace moeopt::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

// A model that knows single letters, the letters of "<s>" and their merges up to "<s>" itself.
Json treacherous(bool ignore_merges) {
  Json json = Json::parse(R"({
      "model": {"type": "BPE", "merges": [["s", ">"], ["<", "s>"]],
                "vocab": {"<": 0, "s": 1, ">": 2, "s>": 3, "<s>": 4, "!": 5}},
      "added_tokens": [{"id": 4, "content": "<s>", "special": true},
                       {"id": 5, "content": "!", "special": true}]})");
  json["model"]["ignore_merges"] = ignore_merges;
  return json;
}

TEST(SpecialTokens, PlainTextNeverBecomesOne) {
  for (const bool ignore_merges : {false, true}) {
    const Tokenizer tokenizer = Tokenizer::from_json(treacherous(ignore_merges).dump(), "FILE");
    EXPECT_THAT(tokenizer.encode("<s>s", false, true), ElementsAre(4, 1));
    // By a merge, as a whole word, and as a single character without any other spelling.
    EXPECT_THAT(tokenizer.encode("<s>", false, false), ElementsAre(0, 3));
    EXPECT_THAT(tokenizer.encode("s!", false, false), ElementsAre(1));
    // What one call learnt about a word is not used by the other kind of call.
    EXPECT_THAT(tokenizer.encode("<s>", false, true), ElementsAre(4));
    EXPECT_THAT(tokenizer.encode("<s>", false, false), ElementsAre(0, 3));
  }
}

TEST(SpecialTokens, NoFamilyLetsTextSpellOne) {
  for (const std::string& family : tokenizer_families()) {
    const Tokenizer& tokenizer = shared_tokenizer(family);
    int specials = 0;
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (!tokenizer.is_special(id)) continue;
      ++specials;
      const std::string text = "x " + std::string(tokenizer.id_to_token(id)) + " y";
      EXPECT_THAT(tokenizer.encode(text, false, true), Contains(id)) << family << text;
      if (tokenizer.id_to_token(id) == "<unk>") continue;
      EXPECT_THAT(tokenizer.encode(text, false, false), Not(Contains(id))) << family << text;
    }
    EXPECT_GT(specials, 0) << family;
  }
}

TEST(SpecialTokens, PostProcessorAddsThemOnRequest) {
  const Tokenizer& tokenizer = shared_tokenizer("llama3");
  const auto begin = tokenizer.token_to_id("<|begin_of_text|>");
  ASSERT_TRUE(begin.has_value());
  EXPECT_THAT(tokenizer.encode("", true), ElementsAre(*begin));
  EXPECT_THAT(tokenizer.encode("", false), ElementsAre());
  auto ids = tokenizer.encode("some text", false);
  ids.insert(ids.begin(), *begin);
  EXPECT_EQ(tokenizer.encode("some text", true), ids);
}

TEST(SpecialTokens, AddedIdsFollowTheVocabularySize) {
  Json json = treacherous(false);
  json["model"]["vocab"]["far"] = 100;
  json["added_tokens"].push_back({{"id", 77}, {"content", "new"}});
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "FILE");
  EXPECT_EQ(tokenizer.token_to_id("new"), 7);  // as the library: whatever the file says
  EXPECT_EQ(tokenizer.vocab_size(), 101);
  EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{7, 50, 100}, false), "new far");
}

TEST(SpecialTokens, LongestMatchWins) {
  Json json = treacherous(false);
  json["added_tokens"].push_back({{"id", 6}, {"content", "s>s"}, {"normalized", false}});
  json["added_tokens"].push_back({{"id", 7}, {"content", "s>s>"}, {"normalized", false}});
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "FILE");
  EXPECT_THAT(tokenizer.encode("s>s>s>s", false), ElementsAre(7, 6));
}

}  // namespace
}  // namespace moeopt::testing
