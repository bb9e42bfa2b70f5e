// The added tokens of a tokenizer.json: pieces of text with ids of their own, found before anything
// else is done to a text. Invariant: ids and matches are `tokenizers`' own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/json_field.h"
#include "text/normalizer.h"
#include "text/token_trie.h"
#include "text/vocabulary.h"

namespace moeopt {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;     // as the file gives it
  std::string normalized;  // what a normalized text is searched for; the content where it is not
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool is_normalized = false;
  bool special = false;
};

// A stretch of a text: plain, or one added token with what it strips beside it.
struct TextPart {
  std::string_view text;
  std::optional<std::int32_t> id;
};

class AddedTokens {
 public:
  // From the field "added_tokens"; ids of tokens that the vocabulary does not hold follow its size.
  AddedTokens(const std::optional<JsonField>& field, const Vocabulary& vocabulary,
              const Normalizer& normalizer);

  const std::vector<AddedToken>& list() const { return tokens_; }
  const AddedToken* find(std::string_view content) const;

  // Cuts a text before (`normalized` false) or after normalization. Where `parse_special` is false,
  // special tokens are plain text.
  void split(std::string_view text, bool normalized, bool parse_special,
             std::vector<TextPart>& parts) const;

 private:
  void read(const JsonField& field, const Vocabulary& vocabulary, const Normalizer& normalizer);

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t> by_content_;
  TokenTrie raw_;
  TokenTrie normalized_;
};

}  // namespace moeopt
