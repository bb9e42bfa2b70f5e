#include "text/parse/reasoning_splitter.h"

#include "text/parse/marker.h"

namespace moeopt {
namespace {

constexpr std::string_view kThinkOpen = "<think>";
constexpr std::string_view kThinkClose = "</think>";

}  // namespace

ReasoningSplitter::ReasoningSplitter(bool open)
    : state_(open ? State::kReasoning : State::kStart) {}

void ReasoningSplitter::give_reasoning(OutputPieces& pieces, std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) {
      std::string part(reasoning_begun_ ? line_ends_ : 0, '\n');
      part += text.substr(at, end - at);
      append_piece(pieces, {OutputPiece::Kind::kReasoning, std::move(part), -1, {}, {}});
      reasoning_begun_ = true;
      line_ends_ = 0;
    }
    if (end < text.size()) ++line_ends_;
    at = end + 1;
  }
}

void ReasoningSplitter::give_content(OutputPieces& pieces, std::string_view text) {
  if (!content_begun_) {
    text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
    content_begun_ = !text.empty();
  }
  append_piece(pieces, {OutputPiece::Kind::kContent, std::string(text), -1, {}, {}});
}

OutputPieces ReasoningSplitter::push(std::string_view text) {
  OutputPieces pieces;
  held_ += text;
  if (state_ == State::kStart) {
    const std::size_t begin = std::min(held_.find_first_not_of(" \t\r\n"), held_.size());
    const std::string_view rest = std::string_view(held_).substr(begin);
    if (begin <= kMostLeadingBytes && rest.starts_with(kThinkOpen)) {
      held_.erase(0, begin + kThinkOpen.size());
      state_ = State::kReasoning;
    } else if (begin <= kMostLeadingBytes && kThinkOpen.starts_with(rest)) {
      return pieces;
    } else {
      state_ = State::kContent;
    }
  }
  if (state_ == State::kReasoning) {
    const std::size_t close = held_.find(kThinkClose);
    if (close == held_.npos) {
      const std::size_t free = held_.size() - begun_marker_bytes(held_, kThinkClose);
      give_reasoning(pieces, std::string_view(held_).substr(0, free));
      held_.erase(0, free);
      return pieces;
    }
    give_reasoning(pieces, std::string_view(held_).substr(0, close));
    held_.erase(0, close + kThinkClose.size());
    state_ = State::kContent;
    content_begun_ = false;
  }
  give_content(pieces, held_);
  held_.clear();
  return pieces;
}

OutputPieces ReasoningSplitter::finish() {
  OutputPieces pieces;
  if (state_ == State::kReasoning) {
    give_reasoning(pieces, held_);
  } else {
    give_content(pieces, held_);
  }
  held_.clear();
  return pieces;
}

bool ends_in_open_reasoning(std::string_view prompt) {
  const std::size_t open = prompt.rfind(kThinkOpen);
  if (open == prompt.npos) return false;
  return without_white_space(prompt.substr(open + kThinkOpen.size())).empty();
}

bool template_knows_reasoning(std::string_view template_source) {
  return template_source.find(kThinkClose) != template_source.npos;
}

}  // namespace moeopt
