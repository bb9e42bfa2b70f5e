// The pre-tokenizer of a tokenizer.json: cuts a text into the words that the model then merges.
// Read are ByteLevel, Split, Digits, Punctuation, Metaspace and Sequence of these.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "text/json_field.h"
#include "text/regex.h"

namespace moeopt {

// Takes the words in order; a view is valid during the call alone.
class WordSink {
 public:
  virtual void word(std::string_view text) = 0;

 protected:
  ~WordSink() = default;
};

class PreTokenizer {
 public:
  // From the field "pre_tokenizer"; absent: a text is one word. Error(kUnsupported) naming a kind,
  // or an order of kinds, that is not read.
  explicit PreTokenizer(const std::optional<JsonField>& field);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // Whether the model sees bytes (in the alphabet of byte_alphabet.h) rather than characters. Words
  // are handed on as plain text in both cases.
  bool byte_level() const { return byte_level_; }

  // Cuts `text`. `at_start`: it begins where the whole text begins.
  void split(std::string_view text, bool at_start, RegexBudget& budget, WordSink& sink) const;

 private:
  struct Steps;
  std::unique_ptr<const Steps> steps_;
  bool byte_level_ = false;
};

}  // namespace moeopt
