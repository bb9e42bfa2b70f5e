#include "text/parse/output_piece.h"

namespace moeopt {

void append_piece(OutputPieces& pieces, OutputPiece piece) {
  const bool announces = !piece.id.empty() || !piece.name.empty();
  if (piece.text.empty() && !announces) return;
  if (!announces && !pieces.empty() && pieces.back().kind == piece.kind &&
      pieces.back().index == piece.index) {
    pieces.back().text += piece.text;
    return;
  }
  pieces.push_back(std::move(piece));
}

}  // namespace moeopt
