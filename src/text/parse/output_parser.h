// A model's text to reasoning, content and tool calls: the two parsers in a row, as serve/ uses
// them. Invariant: the result does not depend on how the text was cut into parts.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/parse/output_piece.h"
#include "text/parse/reasoning_splitter.h"
#include "text/parse/tool_call_parser.h"

namespace moeopt {

class OutputParser {
 public:
  struct Options {
    bool reasoning = false;       // split at <think>, </think>
    bool reasoning_open = false;  // the prompt ends within <think>
    std::optional<ToolCallFormat> tool_calls;
    std::string tool_call_id_prefix = "call_";
    bool bare_call = false;  // all content is one Hermes call without its markers
  };

  explicit OutputParser(Options options);

  OutputPieces push(std::string_view text);
  // `is_whole`: the model ended the text itself, so that a bare call is complete.
  OutputPieces finish(bool is_whole = false);
  int n_calls() const { return tools_ ? tools_->n_calls() : 0; }

 private:
  OutputPieces read_calls(OutputPieces pieces);

  std::optional<ReasoningSplitter> reasoning_;
  std::optional<ToolCallParser> tools_;
  bool bare_call_, bare_call_begun_ = false;
};

}  // namespace moeopt
