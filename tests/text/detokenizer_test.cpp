// Decoding while tokens come: the same text as all at once, in whole characters.
#include <gtest/gtest.h>

#include <random>

#include "text/stream_decoder.h"
#include "text/tokenizer_util.h"
#include "text/utf8.h"

namespace moeopt::testing {
namespace {

// The parts that a stream gives, the last one by finish().
std::vector<std::string> stream(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::vector<std::string> parts;
  for (const std::int32_t id : ids) parts.push_back(decoder.push(id));
  parts.push_back(decoder.finish());
  return parts;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

std::int32_t id_of(const Tokenizer& tokenizer, std::string_view token) {
  const auto id = tokenizer.token_to_id(token);
  EXPECT_TRUE(id.has_value()) << token;
  return id.value_or(0);
}

class Detokenizer : public ::testing::TestWithParam<std::string> {};

TEST_P(Detokenizer, StreamsWhatItDecodesAtOnce) {
  const Tokenizer& tokenizer = shared_tokenizer(GetParam());
  std::mt19937 random(11);
  for (int round = 0; round < 400; ++round) {
    std::vector<std::int32_t> ids(random() % 30);
    for (auto& id : ids) {
      id =
          static_cast<std::int32_t>(random() % (static_cast<unsigned>(tokenizer.vocab_size()) + 2));
    }
    const bool skip_special = round % 2 == 0;
    const auto parts = stream(tokenizer, ids, skip_special);
    EXPECT_EQ(joined(parts), tokenizer.decode(ids, skip_special));
    for (const std::string& part : parts) EXPECT_TRUE(is_valid_utf8(part));
  }
}

TEST_P(Detokenizer, GivesEachPrefixOfAText) {
  const Tokenizer& tokenizer = shared_tokenizer(GetParam());
  const auto ids = tokenizer.encode("Déjà vu: 你好, 👍🏽 the end.", false);
  StreamDecoder decoder(tokenizer, false);
  std::string text;
  const std::string whole = tokenizer.decode(ids, false);
  for (const std::int32_t id : ids) {
    text += decoder.push(id);
    EXPECT_TRUE(whole.starts_with(text));
  }
  EXPECT_EQ(text + decoder.finish(), whole);
}

INSTANTIATE_TEST_SUITE_P(Families, Detokenizer, ::testing::ValuesIn(tokenizer_families()),
                         [](const auto& family) { return family.param; });

TEST(DetokenizerBytes, HoldsACharacterUntilItIsWhole) {
  const Tokenizer& tokenizer = shared_tokenizer("qwen2");
  // U+1F44D is F0 9F 91 8D; in the byte-level alphabet:
  const std::vector<std::int32_t> ids = {id_of(tokenizer, "ð"), id_of(tokenizer, "Ł"),
                                         id_of(tokenizer, "ĳ"), id_of(tokenizer, "į"),
                                         id_of(tokenizer, "!")};
  EXPECT_EQ(stream(tokenizer, ids, false),
            (std::vector<std::string>{"", "", "", "\xF0\x9F\x91\x8D", "!", ""}));
}

TEST(DetokenizerBytes, ReplacesWhatNeverBecomesACharacter) {
  const Tokenizer& tokenizer = shared_tokenizer("qwen2");
  const std::vector<std::int32_t> cut = {id_of(tokenizer, "a"), id_of(tokenizer, "ð"),
                                         id_of(tokenizer, "Ł")};
  EXPECT_EQ(stream(tokenizer, cut, false), (std::vector<std::string>{"a", "", "", "\uFFFD"}));
  const std::vector<std::int32_t> broken = {id_of(tokenizer, "ð"), id_of(tokenizer, "Ł"),
                                            id_of(tokenizer, "a")};
  EXPECT_EQ(stream(tokenizer, broken, false), (std::vector<std::string>{"", "",
                                                                        "\uFFFD"
                                                                        "a",
                                                                        ""}));
}

TEST(DetokenizerFallback, EndsARunOfBytesWithTheNextToken) {
  const Tokenizer& tokenizer = shared_tokenizer("mixtral");
  const std::vector<std::int32_t> ids = {id_of(tokenizer, "a"), id_of(tokenizer, "<0xE4>"),
                                         id_of(tokenizer, "<0xBD>"), id_of(tokenizer, "<0xA0>"),
                                         id_of(tokenizer, "a")};
  EXPECT_EQ(stream(tokenizer, ids, false), (std::vector<std::string>{"a", "", "", "", "你a", ""}));
  // One byte too many makes the whole run replacements, one for each byte.
  const std::vector<std::int32_t> broken = {id_of(tokenizer, "<0xE4>"), id_of(tokenizer, "<0xBD>"),
                                            id_of(tokenizer, "<0xA0>"), id_of(tokenizer, "<0xE4>")};
  EXPECT_EQ(stream(tokenizer, broken, false),
            (std::vector<std::string>{"", "", "", "", "\uFFFD\uFFFD\uFFFD\uFFFD"}));
}

TEST(DetokenizerSpace, CutsTheFirstSpaceAlone) {
  const Tokenizer& tokenizer = shared_tokenizer("mixtral");
  const std::int32_t space = id_of(tokenizer, "▁");
  const std::int32_t a = id_of(tokenizer, "a");
  EXPECT_EQ(stream(tokenizer, std::vector{space, a, space}, false),
            (std::vector<std::string>{"", "a", " ", ""}));
  EXPECT_EQ(stream(tokenizer, std::vector{a, space}, false),
            (std::vector<std::string>{"a", " ", ""}));
}

TEST(DetokenizerSpecial, LeavesSpecialTokensOut) {
  const Tokenizer& tokenizer = shared_tokenizer("qwen2");
  const auto ids = tokenizer.encode("<|im_start|>hi<|im_end|><think>", false);
  EXPECT_EQ(tokenizer.decode(ids, true), "hi<think>");
  EXPECT_EQ(tokenizer.decode(ids, false), "<|im_start|>hi<|im_end|><think>");
  EXPECT_EQ(joined(stream(tokenizer, ids, true)), "hi<think>");
}

}  // namespace
}  // namespace moeopt::testing
