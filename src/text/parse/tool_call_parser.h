// Finds the calls of tools in a model's text. Two ways of writing them are read:
//   Hermes and Qwen   <tool_call>{"name": N, "arguments": {...}}</tool_call>
//   DeepSeek V3       <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>N, then a
//   fenced
//                     block of JSON, <｜tool▁call▁end｜><｜tool▁calls▁end｜>; V3.1 has
//                     N<｜tool▁sep｜>{...} within the same markers.
// A call is announced once its name and the first byte of its arguments are known; what fails
// before that is given back as content, byte for byte. Arguments stream as they come and are
// checked to be JSON on the way: where they stop being JSON the call ends there, as at a length
// limit, and the rest is content. Invariant: the result does not depend on how the text was cut
// into parts; no part of a marker is ever given out; held back are at most kMostHeldBytes.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/parse/output_piece.h"

namespace moeopt {

class ToolCallMachine;

enum class ToolCallFormat { kHermes, kDeepSeek };

// The format that a chat template asks a model to write; nothing when it knows no tools.
std::optional<ToolCallFormat> tool_call_format(std::string_view template_source);

class ToolCallParser {
 public:
  static constexpr std::size_t kMostHeldBytes = std::size_t{64} << 10;

  // A call's id is `id_prefix` and its index.
  ToolCallParser(ToolCallFormat format, std::string id_prefix);
  ToolCallParser(ToolCallParser&&) noexcept;
  ToolCallParser& operator=(ToolCallParser&&) noexcept;
  ~ToolCallParser();

  OutputPieces push(std::string_view text);
  // The end of the text: what was held back.
  OutputPieces finish();

  // Calls announced so far: above 0, the finish reason is "tool_calls".
  int n_calls() const;

 private:
  std::unique_ptr<ToolCallMachine> machine_;
};

}  // namespace moeopt
