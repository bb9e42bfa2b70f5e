// A bound on ids ends an encoding early, and changes no ids that are within it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/tokenizer_util.h"

namespace moeopt::testing {
namespace {

TEST(TokenizerAtMost, TheBoundIsExact) {
  for (const std::string& family : tokenizer_families()) {
    const Tokenizer& tokenizer = shared_tokenizer(family);
    for (std::size_t i = 0; i < tokenizer_texts().size(); i += 7) {
      const std::string& text = tokenizer_texts()[i];
      const auto [add, parse] = encode_mode(i);
      const auto ids = tokenizer.encode(text, add, parse);
      EXPECT_EQ(tokenizer.encode_at_most(ids.size(), text, add, parse), ids) << family << i;
      if (ids.empty()) continue;
      EXPECT_EQ(tokenizer.encode_at_most(ids.size() - 1, text, add, parse), std::nullopt)
          << family << i;
    }
  }
}

TEST(TokenizerAtMost, OneLongWord) {
  for (const std::string& family : tokenizer_families()) {
    const Tokenizer& tokenizer = shared_tokenizer(family);
    for (const char unit : {'a', ' ', '\n', '1'}) {
      const std::string text(50'000, unit);
      const auto ids = tokenizer.encode(text, false);
      EXPECT_EQ(tokenizer.encode_at_most(ids.size(), text, false), ids) << family << unit;
      if (ids.empty()) continue;
      EXPECT_EQ(tokenizer.encode_at_most(ids.size() - 1, text, false), std::nullopt)
          << family << unit;
    }
  }
}

// Whole characters of no token become one id together: a long word may have few.
TEST(TokenizerAtMost, FusedUnknownCharactersAreOneId) {
  const Tokenizer tokenizer = Tokenizer::from_json(R"({"model": {"type": "BPE", "merges": [],
      "vocab": {"?": 0, "a": 1}, "unk_token": "?", "fuse_unk": true}})",
                                                   "FILE");
  const std::string text = std::string(10'000, 'b') + "a";
  EXPECT_THAT(tokenizer.encode_at_most(2, text, false),
              ::testing::Optional(::testing::ElementsAre(0, 1)));
}

}  // namespace
}  // namespace moeopt::testing
