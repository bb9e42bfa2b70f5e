#include "text/parse/tool_call_machine.h"

#include <utility>

#include "text/parse/marker.h"
#include "text/parse/tool_call_parser.h"

namespace moeopt {

void ToolCallMachine::finish() {
  if (!announced_) give_back();
  held_.clear();
}

OutputPieces ToolCallMachine::take_pieces() {
  return std::exchange(pieces_, {});
}

bool ToolCallMachine::holds_too_much() const {
  return held_.size() >= ToolCallParser::kMostHeldBytes;
}

bool ToolCallMachine::take_content(char byte, std::string_view marker) {
  held_ += byte;
  if (held_ == marker) return true;
  const std::size_t kept = begun_marker_bytes(held_, marker);
  give_content(std::string_view(held_).substr(0, held_.size() - kept));
  held_.erase(0, held_.size() - kept);
  return false;
}

ToolCallMachine::Matched ToolCallMachine::match(char byte, std::string_view marker,
                                                std::size_t& begun) {
  if (byte != marker[begun]) return Matched::kNo;
  held_ += byte;
  return ++begun == marker.size() ? Matched::kWhole : Matched::kPart;
}

void ToolCallMachine::give_back() {
  give_content(held_);
  held_.clear();
}

void ToolCallMachine::give_content(std::string_view text) {
  if (drops_white_space_) {
    text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    if (text.empty()) return;
    drops_white_space_ = false;
  }
  append_piece(pieces_, {OutputPiece::Kind::kContent, std::string(text), -1, {}, {}});
}

void ToolCallMachine::announce(std::string name) {
  held_.clear();
  announced_ = true;
  append_piece(pieces_, {OutputPiece::Kind::kToolCall,
                         {},
                         n_calls_,
                         id_prefix_ + std::to_string(n_calls_),
                         std::move(name)});
  ++n_calls_;
}

void ToolCallMachine::give_arguments(std::string_view text) {
  append_piece(pieces_, {OutputPiece::Kind::kToolCall, std::string(text), n_calls_ - 1, {}, {}});
}

}  // namespace moeopt
