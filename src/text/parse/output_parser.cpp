#include "text/parse/output_parser.h"

namespace moeopt {

OutputParser::OutputParser(Options options) : bare_call_(options.bare_call) {
  if (options.reasoning) reasoning_.emplace(options.reasoning_open);
  if (options.tool_calls) {
    tools_.emplace(*options.tool_calls, std::move(options.tool_call_id_prefix));
  }
}

OutputPieces OutputParser::read_calls(OutputPieces pieces) {
  if (!tools_) return pieces;
  OutputPieces out;
  for (OutputPiece& piece : pieces) {
    if (piece.kind == OutputPiece::Kind::kReasoning) {
      append_piece(out, std::move(piece));
    } else {
      if (bare_call_ && !bare_call_begun_) tools_->push("<tool_call>");
      bare_call_begun_ = bare_call_;
      for (OutputPiece& part : tools_->push(piece.text)) append_piece(out, std::move(part));
    }
  }
  return out;
}

OutputPieces OutputParser::push(std::string_view text) {
  if (reasoning_) return read_calls(reasoning_->push(text));
  return read_calls({{OutputPiece::Kind::kContent, std::string(text), -1, {}, {}}});
}

OutputPieces OutputParser::finish(bool is_whole) {
  OutputPieces out = reasoning_ ? read_calls(reasoning_->finish()) : OutputPieces{};
  if (is_whole && bare_call_begun_) {
    for (OutputPiece& piece : tools_->push("</tool_call>")) append_piece(out, std::move(piece));
  }
  if (tools_) {
    for (OutputPiece& piece : tools_->finish()) append_piece(out, std::move(piece));
  }
  return out;
}

}  // namespace moeopt
