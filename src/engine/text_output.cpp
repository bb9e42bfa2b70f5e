#include "engine/text_output.h"

#include <utility>

namespace moeopt {

TextOutput::TextOutput(const Tokenizer& tokenizer, bool skip_special, std::vector<std::string> stop)
    : decoder_(tokenizer, skip_special), stop_(std::move(stop)) {}

TextOutput::Piece TextOutput::push(std::int32_t id) {
  Piece piece;
  piece.text = stop_.push(decoder_.push(id));
  piece.stopped = stop_.hit().has_value();
  return piece;
}

TextOutput::Piece TextOutput::finish() {
  Piece piece;
  piece.text = stop_.push(decoder_.finish());
  piece.text += stop_.finish();
  piece.stopped = stop_.hit().has_value();
  return piece;
}

}  // namespace moeopt
