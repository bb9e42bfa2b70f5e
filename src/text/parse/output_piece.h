// What the text of a model turns out to be, piece by piece.
#pragma once

#include <string>
#include <vector>

namespace moeopt {

struct OutputPiece {
  enum class Kind { kReasoning, kContent, kToolCall };

  Kind kind = Kind::kContent;
  std::string text;  // of a tool call: the next part of its arguments, as JSON text
  // Of a tool call alone:
  int index = -1;  // which call of this text, from 0
  std::string id;  // set in the first piece of a call, as is `name`
  std::string name;

  bool operator==(const OutputPiece&) const = default;
};

using OutputPieces = std::vector<OutputPiece>;

// Appends `piece`, or adds its text to the last piece where that goes on with the same thing.
void append_piece(OutputPieces& pieces, OutputPiece piece);

}  // namespace moeopt
