#include "text/grammar_util.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace moeopt::testing {
namespace {

int below(Random& random, int n) {
  return static_cast<int>(random() % static_cast<unsigned>(n));
}
bool once_in(Random& random, int n) {
  return below(random, n) == 0;
}

ByteVocabulary make_vocabulary() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* text : {"{\"",
                           "\":",
                           "\": ",
                           "\":\"",
                           "\",\"",
                           "\", \"",
                           "\"},",
                           "}]",
                           "]}",
                           "\"}]}",
                           "[{\"",
                           "[[",
                           "]]",
                           "{}",
                           "[]",
                           "{}}",
                           "\"\"",
                           "true",
                           "false",
                           "null",
                           " true",
                           "rue",
                           "alse",
                           "\n",
                           "\n  ",
                           "\n    ",
                           "  ",
                           "    ",
                           " \n",
                           "\r\n",
                           "name",
                           "na",
                           "ame",
                           "\"name\"",
                           "\"a\":",
                           "ab",
                           "abc",
                           "\"b\"",
                           "12",
                           "123",
                           "0.5",
                           "-1",
                           "1e",
                           "e+",
                           ".0",
                           "10}",
                           "2]",
                           "\\n",
                           "\\\"",
                           "\\u",
                           "\\u00",
                           "\\ud83d",
                           "\\ude00",
                           "D83D",
                           "\xC3\xA9",
                           "\xE4\xBD\xA0",
                           "\xE4\xBD",
                           "\xA0\xE5",
                           "\xF0\x9F\x98\x80",
                           "\xF0\x9F",
                           " the",
                           "the",
                           "ing",
                           "\"x",
                           "x\"",
                           ",",
                           ", ",
                           ",\n",
                           " :",
                           ": {",
                           ": [",
                           "\x01\x02",
                           "\xC0\x80",
                           "                                                ",
                           "\xED\xA0\x80",
                           "red",
                           "green",
                           "\"red\"",
                           "{\"name\":\"",
                           "\"],\"",
                           "00",
                           "0]",
                           "\"}",
                           "the",
                           "}}",
                           "\"}\n",
                           "<tool_call>",
                           "\\",
                           "\\\\"}) {
    tokens.emplace_back(text);
  }
  std::vector<std::optional<std::string>> bytes(tokens.begin(), tokens.end());
  bytes.emplace_back();
  VocabularyTrie trie(bytes);
  const auto end_id = static_cast<std::int32_t>(tokens.size());
  return {std::move(tokens), std::move(trie), end_id};
}

}  // namespace

const ByteVocabulary& byte_vocabulary() {
  static const ByteVocabulary vocabulary = make_vocabulary();
  return vocabulary;
}

std::shared_ptr<const JsonGrammar> grammar_of(const Schema& schema) {
  const std::int32_t end_id = byte_vocabulary().end_id;
  return JsonGrammar::from_schema(schema, byte_vocabulary().trie, {&end_id, 1});
}

Follower::Follower(const JsonGrammar& grammar, const ByteVocabulary& vocabulary)
    : vocabulary_(vocabulary),
      constraint_(grammar.start()),
      mask_((static_cast<std::size_t>(vocabulary.trie.id_end()) + 63) / 64) {}

std::vector<std::int32_t> Follower::allowed() {
  constraint_->fill_mask(mask_);
  std::vector<std::int32_t> ids;
  for (std::int32_t id = 0; id < vocabulary_.trie.id_end(); ++id) {
    if ((mask_[static_cast<std::size_t>(id) / 64] >> (id % 64) & 1) != 0) ids.push_back(id);
  }
  return ids;
}

bool Follower::allows(std::int32_t id) {
  const auto ids = allowed();
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

bool Follower::accepts(std::string_view text, Random& random) {
  while (!text.empty()) {
    std::vector<std::int32_t> fitting;
    for (std::size_t id = 0; id < vocabulary_.tokens.size(); ++id) {
      const std::string& token = vocabulary_.tokens[id];
      if (text.starts_with(token)) fitting.push_back(static_cast<std::int32_t>(id));
    }
    const std::int32_t id = fitting[random() % fitting.size()];
    if (!allows(id)) return false;
    accept(id);
    text.remove_prefix(vocabulary_.tokens[static_cast<std::size_t>(id)].size());
  }
  return true;
}

bool fits(const JsonGrammar& grammar, std::string_view text, unsigned seed) {
  Random random(seed);
  Follower follower(grammar);
  return follower.accepts(text, random) && follower.complete() &&
         follower.allows(byte_vocabulary().end_id);
}

std::string sample(const JsonGrammar& grammar, Random& random) {
  const ByteVocabulary& vocabulary = byte_vocabulary();
  Follower follower(grammar);
  std::string text;
  const int n_free = below(random, 200);
  for (int n = 0; n < 20'000; ++n) {
    const std::vector<std::int32_t> ids = follower.allowed();
    if (ids.empty()) {
      ADD_FAILURE() << "nothing is allowed after " << text;
      return text;
    }
    const bool may_end = ids.back() == vocabulary.end_id;
    EXPECT_EQ(may_end, follower.complete()) << text;
    std::int32_t id = ids[random() % ids.size()];
    if (n >= n_free) {
      const auto has = [&](char byte) {
        return std::find(ids.begin(), ids.end(), static_cast<std::int32_t>(byte)) != ids.end();
      };
      // Within a string its end, else the end of what is open.
      for (const char wanted : {'"', ']', '}'}) {
        if (has(wanted) && (wanted == '"' || !has('q'))) id = wanted;
      }
      if (may_end) id = vocabulary.end_id;
    } else if (once_in(random, 3)) {
      const auto quote = std::find(ids.begin(), ids.end(), static_cast<std::int32_t>('"'));
      if (quote != ids.end()) id = *quote;
    }
    follower.accept(id);
    if (id == vocabulary.end_id) return text;
    text += vocabulary.tokens[static_cast<std::size_t>(id)];
  }
  ADD_FAILURE() << "no end comes after " << text.substr(0, 2000);
  return text;
}

}  // namespace moeopt::testing
