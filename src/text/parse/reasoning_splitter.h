// Splits a thinking model's text at <think> and </think> into reasoning and content.
// Invariant: the result does not depend on how the text was cut into parts; no part of a marker is
// ever given out; what is held back is a few bytes, and line ends as a number.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "text/parse/output_piece.h"

namespace moeopt {

class ReasoningSplitter {
 public:
  static constexpr std::size_t kMostLeadingBytes = 64;

  // `open`: the prompt already ends within <think> (see ends_in_open_reasoning).
  explicit ReasoningSplitter(bool open);

  // Reasoning may be opened by <think> at the beginning of the text alone (after white space);
  // later ones are content. Line ends around the markers belong to neither side.
  OutputPieces push(std::string_view text);
  // The end of the text: what was held back.
  OutputPieces finish();

 private:
  enum class State { kStart, kReasoning, kContent };

  void give_reasoning(OutputPieces& pieces, std::string_view text);
  void give_content(OutputPieces& pieces, std::string_view text);

  State state_;
  std::string held_;  // may yet become a marker; at the start, white space before one
  bool reasoning_begun_ = false;
  bool content_begun_ = true;  // false after </think>, until something other than a line end
  std::size_t line_ends_ = 0;  // at the end of the reasoning so far, not given out
};

// Whether a rendered prompt leaves reasoning open: it ends with <think> and white space.
bool ends_in_open_reasoning(std::string_view prompt);
// Whether a chat template knows reasoning: it names </think>.
bool template_knows_reasoning(std::string_view template_source);

}  // namespace moeopt
