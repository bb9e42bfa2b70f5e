#include "text/jinja/string_literal.h"

#include <fmt/format.h>

#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Jinja spells other characters as escapes before it decodes, which shows after a backslash.
std::string to_ascii(std::string_view raw) {
  std::string out;
  for (std::size_t at = 0; at < raw.size();) {
    const auto c = static_cast<unsigned>(decode_next(raw, at));
    if (c < 0x80) {
      out.push_back(static_cast<char>(c));
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", c);
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", c);
    } else {
      out += fmt::format("\\U{:08x}", c);
    }
  }
  return out;
}

class Decoder {
 public:
  explicit Decoder(std::string source) : source_(std::move(source)) {}

  DecodedLiteral run() {
    while (at_ < source_.size() && out_.error.empty()) {
      if (source_[at_] != '\\' || at_ + 1 == source_.size()) {
        out_.text.push_back(source_[at_++]);
      } else {
        escape(source_[at_ + 1]);
      }
    }
    return std::move(out_);
  }

 private:
  void escape(char c) {
    static constexpr std::string_view kNames = "\\'\"abfnrtv";
    static constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
    at_ += 2;
    if (const std::size_t i = kNames.find(c); i != std::string_view::npos) {
      out_.text.push_back(kValues[i]);
    } else if (c == '\n') {
      return;
    } else if (c >= '0' && c <= '7') {
      octal();
    } else if (c == 'x') {
      hex(2, "truncated \\xXX escape");
    } else if (c == 'u') {
      hex(4, "truncated \\uXXXX escape");
    } else if (c == 'U') {
      hex(8, "truncated \\UXXXXXXXX escape");
    } else if (c == 'N') {
      out_.error = "character names are not supported in a string";
    } else {
      out_.text.push_back('\\');
      out_.text.push_back(c);
    }
  }

  void octal() {
    --at_;
    char32_t value = 0;
    for (int i = 0; i < 3 && at_ < source_.size(); ++i, ++at_) {
      if (source_[at_] < '0' || source_[at_] > '7') break;
      value = value * 8 + static_cast<char32_t>(source_[at_] - '0');
    }
    append_utf8(out_.text, value);
  }

  void hex(int digits, std::string_view error) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const int digit = at_ < source_.size() ? hex_digit(source_[at_]) : -1;
      if (digit < 0) {
        out_.error = error;
        return;
      }
      value = value * 16 + static_cast<char32_t>(digit);
    }
    if (value > 0x10FFFF) {
      out_.error = "illegal Unicode character";
    } else if (value >= 0xD800 && value < 0xE000) {
      out_.error = "half a surrogate pair in a string";
    } else {
      append_utf8(out_.text, value);
    }
  }

  std::string source_;
  std::size_t at_ = 0;
  DecodedLiteral out_;
};

}  // namespace

DecodedLiteral decode_literal(std::string_view raw) {
  return Decoder(to_ascii(raw)).run();
}

}  // namespace moeopt::jinja
