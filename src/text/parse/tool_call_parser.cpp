#include "text/parse/tool_call_parser.h"

#include "text/parse/tool_call_machine.h"

namespace moeopt {

std::optional<ToolCallFormat> tool_call_format(std::string_view template_source) {
  const auto names = [&](std::string_view marker) {
    return template_source.find(marker) != template_source.npos;
  };
  if (names("<｜tool▁calls▁begin｜>")) return ToolCallFormat::kDeepSeek;
  if (names("<tool_call>")) return ToolCallFormat::kHermes;
  return std::nullopt;
}

ToolCallParser::ToolCallParser(ToolCallFormat format, std::string id_prefix)
    : machine_(format == ToolCallFormat::kHermes ? make_hermes_machine(std::move(id_prefix))
                                                 : make_deepseek_machine(std::move(id_prefix))) {}
ToolCallParser::ToolCallParser(ToolCallParser&&) noexcept = default;
ToolCallParser& ToolCallParser::operator=(ToolCallParser&&) noexcept = default;
ToolCallParser::~ToolCallParser() = default;

OutputPieces ToolCallParser::push(std::string_view text) {
  for (const char byte : text) machine_->take(byte);
  return machine_->take_pieces();
}

OutputPieces ToolCallParser::finish() {
  machine_->finish();
  return machine_->take_pieces();
}

int ToolCallParser::n_calls() const {
  return machine_->n_calls();
}

}  // namespace moeopt
