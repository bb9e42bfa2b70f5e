#include "text/decoder_steps.h"

#include "text/hexadecimal.h"

namespace moeopt {

std::string strip_token(const StripRule& rule, std::string_view token) {
  for (std::size_t i = 0; i < rule.start && token.starts_with(rule.content); ++i) {
    token.remove_prefix(rule.content.size());
  }
  for (std::size_t i = 0; i < rule.stop && token.ends_with(rule.content); ++i) {
    token.remove_suffix(rule.content.size());
  }
  return std::string(token);
}

std::string FusedStrip::push(const StripRule& rule, std::string_view part) {
  while (!begun_ && cut_ < rule.start && part.starts_with(rule.content)) {
    part.remove_prefix(rule.content.size());
    ++cut_;
  }
  if (part.empty()) return {};
  begun_ = true;
  std::size_t trailing = 0;
  std::string_view rest = part;
  while (trailing < rule.stop && rest.ends_with(rule.content)) {
    rest.remove_suffix(rule.content.size());
    ++trailing;
  }
  // Characters held so far stay held only where this part is nothing but more of them.
  std::size_t released = held_;
  if (rest.empty()) {
    held_ = std::min(held_ + trailing, rule.stop);
    released = released + trailing - held_;
    rest = {};
  } else {
    held_ = trailing;
  }
  std::string out;
  for (std::size_t i = 0; i < released; ++i) out += rule.content;
  out += rest;
  return out;
}

bool ByteRun::take(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return false;
  const int high = token[3] == '+' ? 0 : hexadecimal_digit(token[3]);
  const int low = hexadecimal_digit(token[4]);
  if (high < 0 || low < 0) return false;
  bytes_.push_back(static_cast<char>(high * 16 + low));
  return true;
}

}  // namespace moeopt
