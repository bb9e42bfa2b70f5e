// Splits a template into text and tags, with Jinja's whitespace rules for trim_blocks and
// lstrip_blocks: the line break after a block tag goes, and so does the indentation before one,
// unless a '+' keeps them; a '-' takes all whitespace on its side.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt::jinja {

enum class TokenKind : std::uint8_t {
  kText,
  kBlockBegin,
  kBlockEnd,
  kOutputBegin,
  kOutputEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  int line;
  std::string text;  // a string's is decoded; an operator's is its sign
  std::int64_t integer = 0;
  double real = 0;

  bool is(TokenKind k, std::string_view t) const { return kind == k && text == t; }
  bool is_name(std::string_view t) const { return is(TokenKind::kName, t); }
  bool is_operator(std::string_view t) const { return is(TokenKind::kOperator, t); }
};

// Always ends with a kEnd. Throws Error(kInvalidData), "where:line: message".
std::vector<Token> tokenize(std::string_view source, std::string_view where);

}  // namespace moeopt::jinja
