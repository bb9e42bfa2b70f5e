// Any bytes as a model's text: cut in any way, the parsers give the same, and nothing is lost that
// is not a marker. The first byte chooses the format and how the text is cut.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "text/parse/output_parser.h"

namespace {

std::vector<std::string> outcome(std::string_view text, std::uint8_t choice,
                                 std::size_t part_bytes) {
  moeopt::OutputParser parser({.reasoning = (choice & 1) != 0,
                               .reasoning_open = (choice & 2) != 0,
                               .tool_calls = (choice & 4) != 0 ? moeopt::ToolCallFormat::kHermes
                                                               : moeopt::ToolCallFormat::kDeepSeek,
                               .tool_call_id_prefix = "c"});
  std::vector<std::string> texts(2);
  const auto add = [&](const moeopt::OutputPieces& pieces) {
    for (const moeopt::OutputPiece& piece : pieces) {
      if (piece.kind != moeopt::OutputPiece::Kind::kToolCall) {
        texts[piece.kind == moeopt::OutputPiece::Kind::kContent ? 0 : 1] += piece.text;
        continue;
      }
      const auto at = static_cast<std::size_t>(piece.index) + 2;
      if (at == texts.size()) texts.push_back(piece.id + piece.name);
      texts.at(at) += piece.text;
    }
  };
  for (std::size_t at = 0; at < text.size(); at += part_bytes)
    add(parser.push(text.substr(at, part_bytes)));
  add(parser.finish());
  MOEOPT_CHECK(static_cast<std::size_t>(parser.n_calls()) + 2 == texts.size());
  return texts;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = outcome(text, data[0], size);
  MOEOPT_CHECK(outcome(text, data[0], 1U + (data[0] >> 3)) == whole);
  if ((data[0] & 1) == 0 && whole.size() == 2) MOEOPT_CHECK(whole[0] == text);
  return 0;
}
