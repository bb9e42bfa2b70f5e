// The BPE model of a tokenizer.json: from a word to its tokens.
// Invariant: for every word the same ids as `tokenizers`' BPE without dropout.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/bpe_merge.h"
#include "text/json_field.h"
#include "text/merge_table.h"
#include "text/vocabulary.h"
#include "text/word_cache.h"

namespace moeopt {

// What one thread needs while it encodes; holds no result.
struct BpeWorkspace {
  WordCache cache;
  BpeMerger merger;
  std::vector<std::int32_t> symbols;
};

class BpeModel {
 public:
  // From the field "model". `byte_level`: words are bytes, written in the vocabulary in the
  // alphabet of byte_alphabet.h; else words are characters.
  BpeModel(const JsonField& field, bool byte_level);

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Marks ids that a text never becomes where `forbid_control` asks for it, by id below id_end().
  void set_control_ids(std::vector<bool> control) { control_ = std::move(control); }
  // The id for what has no token, where the file names one.
  std::optional<std::int32_t> unknown_id() const;

  // The bytes of a word that one id stands for at most; nothing where some may get no id at all.
  std::optional<std::size_t> most_bytes_per_id() const;

  // Appends the ids of `word` (valid UTF-8). Error(kInvalidData) when a character has no token and
  // the file's unk_token is none either.
  void encode(std::string_view word, bool forbid_control, BpeWorkspace& workspace,
              std::vector<std::int32_t>& ids) const;

 private:
  void read_options(const JsonField& field);
  void read_merges(const JsonField& merges);
  void index_characters();
  void index_bytes();
  void index_whole_words();

  bool is_control(std::int32_t id) const { return control_[static_cast<std::size_t>(id)]; }
  void encode_segment(std::string_view word, bool forbid_control, BpeWorkspace& workspace,
                      std::vector<std::int32_t>& ids) const;
  void tokenize(std::string_view word, bool forbid_control, BpeWorkspace& workspace) const;
  void split_bytes(std::string_view word, bool forbid_control, BpeWorkspace& workspace) const;
  void split_characters(std::string_view word, bool forbid_control, BpeWorkspace& workspace) const;
  std::int32_t character_id(char32_t code_point) const;
  std::optional<std::int32_t> whole_word_id(std::string_view word) const;

  class SymbolWriter;

  std::string name_;
  bool byte_level_;
  bool ignore_merges_ = false;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool cuts_at_space_mark_ = false;  // no merge crosses from another character to U+2581
  std::optional<std::string> unknown_;
  Vocabulary vocabulary_;
  MergeTable merges_;
  std::vector<bool> control_;
  std::vector<std::int32_t> plane_;                             // ids by code point, -1: none
  std::vector<std::pair<char32_t, std::int32_t>> higher_;       // above the basic plane
  std::array<std::int32_t, 256> byte_ids_{};                    // ids of single bytes
  std::array<std::int32_t, 256> fallback_ids_{};                // ids of "<0xAB>"
  std::vector<std::pair<std::string, std::int32_t>> word_ids_;  // for ignore_merges, by bytes
};

}  // namespace moeopt
