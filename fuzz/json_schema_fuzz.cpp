// Any bytes as a JSON schema: an Error, or a grammar that random tokens follow to valid JSON
// without ever having nowhere to go. The first byte seeds the tokens.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "text/grammar/json_grammar.h"
#include "text/grammar/vocabulary_trie.h"

namespace {

constexpr std::int32_t kEnd = 256 + 8;

const moeopt::VocabularyTrie& vocabulary() {
  static const moeopt::VocabularyTrie trie = [] {
    std::vector<std::optional<std::string>> tokens;
    for (int byte = 0; byte < 256; ++byte)
      tokens.emplace_back(std::string(1, static_cast<char>(byte)));
    for (const char* text : {"{\"", "\":", "\",\"", "\"}", "null", "[[", "\\u00", "\n  "})
      tokens.emplace_back(text);
    tokens.emplace_back();
    return moeopt::VocabularyTrie(tokens);
  }();
  return trie;
}

void follow(const moeopt::JsonGrammar& grammar, std::uint32_t seed) {
  const auto constraint = grammar.start();
  std::vector<std::uint64_t> mask(kEnd / 64 + 1);
  std::string text;
  for (int n = 0; n < 2'000; ++n) {
    constraint->fill_mask(mask);
    const auto allows = [&](std::int32_t id) {
      return (mask[static_cast<std::size_t>(id) / 64] >> (id % 64) & 1) != 0;
    };
    std::vector<std::int32_t> ids;
    for (std::int32_t id = 0; id <= kEnd; ++id) {
      if (allows(id)) ids.push_back(id);
    }
    MOEOPT_CHECK(!ids.empty());
    MOEOPT_CHECK(allows(kEnd) == constraint->complete());
    seed = seed * 1664525 + 1013904223;
    std::int32_t id = ids[(seed >> 8) % ids.size()];
    if (n > 40) {
      for (const char wanted : {'"', ']', '}'}) {
        if (allows(wanted) && (wanted == '"' || !allows('q'))) id = wanted;
      }
      if (allows(kEnd)) id = kEnd;
    }
    constraint->accept(id);
    if (id == kEnd) {
      MOEOPT_CHECK(nlohmann::json::accept(text));
      return;
    }
    text += vocabulary().bytes(id);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const auto schema = moeopt::parse_ordered_json(text, "schema");
    const auto grammar = moeopt::JsonGrammar::from_schema(schema, vocabulary(), {&kEnd, 1});
    follow(*grammar, data[0]);
  } catch (const moeopt::Error&) {
  }
  return 0;
}
