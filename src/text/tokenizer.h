// A Hugging Face tokenizer.json: text to token ids and back, exactly as the `tokenizers` library.
// Anything of the file that is not read is refused by name. Its truncation and padding are left
// out, as callers of that library do by default.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/decoder.h"

namespace moeopt {

class VocabularyTrie;

class Tokenizer {
 public:
  // Reads the JSON text; `where` (its file) opens every message. Error(kInvalidData) for what is
  // broken, Error(kUnsupported) for what this program does not do.
  static Tokenizer from_json(std::string_view tokenizer_json, std::string_view where);
  static Tokenizer from_file(const std::filesystem::path& file);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // The ids of `text`. Where it is not UTF-8, each maximal ill-formed part counts as U+FFFD.
  // `add_special_tokens`: with the ids that the file's post-processor puts around a text.
  // `parse_special`: spellings of special tokens in the text become their ids; without it no id of
  // a special token comes out of the text, however it is spelt. Any number of threads may call
  // this. Error(kInvalidData) when the file's expressions or normalizers run away on this text.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens,
                                   bool parse_special = true) const;
  // The same where they are no more than `most_ids`, else nothing. Merges no more of the text than
  // it takes to tell, however long it is.
  std::optional<std::vector<std::int32_t>> encode_at_most(std::size_t most_ids,
                                                          std::string_view text,
                                                          bool add_special_tokens,
                                                          bool parse_special = true) const;

  // The text of `ids`; ids without a token count for nothing. `skip_special`: special tokens too.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const;

  // Ids are below it: one more than the highest one, added tokens included.
  std::int32_t vocab_size() const;
  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  // The token's text as the vocabulary spells it; empty for an id without a token.
  std::string_view id_to_token(std::int32_t id) const;
  // Whether this is an added token marked special.
  bool is_special(std::int32_t id) const;
  // Those that are and have a text, ascending.
  std::span<const std::int32_t> special_ids() const;

  // The bytes that the token adds to a decoded text, wherever it stands; nothing for special tokens
  // and ids without a token. Error(kUnsupported) when the decoder makes them depend on their place.
  std::optional<std::string> token_bytes(std::int32_t id) const;
  // token_bytes of all ids, made by the first call.
  const VocabularyTrie& byte_trie() const;

 private:
  friend class StreamDecoder;
  struct Parts;

  explicit Tokenizer(std::unique_ptr<const Parts> parts);
  // What a decoder stream takes for `id`; nothing when it counts for nothing.
  std::optional<std::string_view> decoder_input(std::int32_t id, bool skip_special) const;
  const Decoder& decoder() const;

  std::unique_ptr<const Parts> parts_;
};

}  // namespace moeopt
