#include "text/jinja/lexer.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.h"
#include "text/jinja/string_literal.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// "\r\n" and "\r" become "\n", and the last line's break goes.
std::string normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
    } else {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string source, std::string_view where) : source_(std::move(source)), where_(where) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) text_and_tag();
    push(TokenKind::kEnd);
    return std::move(tokens_);
  }

 private:
  struct Raw {
    std::size_t end;  // just after "{% raw %}"
  };

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw_error(ErrorCode::kInvalidData, "{}:{}: {}", where_, line_,
                fmt::format(format, std::forward<Args>(args)...));
  }

  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool follows(std::string_view text) const { return rest().starts_with(text); }

  void push(TokenKind kind, std::string_view text = {}) {
    tokens_.push_back({kind, line_, std::string(text)});
  }

  // Moves to `end`, counting lines.
  void move_to(std::size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    line_starting_ = end > at_ && source_[end - 1] == '\n';
    at_ = end;
  }

  std::size_t skip_space(std::size_t at) const {
    while (at < source_.size()) {
      std::size_t next = at;
      if (!is_space(decode_next(source_, next))) break;
      at = next;
    }
    return at;
  }

  char sign_at(std::size_t at) const {
    const bool sign = at < source_.size() && (source_[at] == '-' || source_[at] == '+');
    return sign ? source_[at] : '\0';
  }

  // "{% raw %}" at `at`, a "{%".
  std::optional<Raw> raw_at(std::size_t at) const {
    std::size_t i = at + 2;
    if (sign_at(i) != '\0') ++i;
    i = skip_space(i);
    if (source_.compare(i, 3, "raw") != 0) return std::nullopt;
    i = skip_space(i + 3);
    if (source_.compare(i, 3, "-%}") == 0) return Raw{skip_space(i + 3)};
    if (source_.compare(i, 2, "%}") == 0) return Raw{i + 2};
    return std::nullopt;
  }

  // The text before a tag, less what the tag's sign or lstrip_blocks takes from its end.
  void push_text(std::string_view text, char sign, bool is_output) {
    std::string_view kept = text;
    if (sign == '-') {
      kept = strip_right(text);
    } else if (sign != '+' && !is_output) {
      const std::size_t newline = text.rfind('\n');
      const std::size_t start = newline == std::string_view::npos ? 0 : newline + 1;
      const bool own_line = newline != std::string_view::npos || line_starting_;
      if (own_line && strip_left(text.substr(start)).empty()) kept = text.substr(0, start);
    }
    if (!kept.empty()) push(TokenKind::kText, kept);
  }

  void text_and_tag() {
    std::size_t tag = at_;
    const auto opens = [&](char c) { return c == '%' || c == '{' || c == '#'; };
    while ((tag = source_.find('{', tag)) != std::string::npos) {
      if (tag + 1 < source_.size() && opens(source_[tag + 1])) break;
      ++tag;
    }
    if (tag == std::string::npos) {
      push(TokenKind::kText, rest());
      return move_to(source_.size());
    }
    const char kind = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    push_text(rest().substr(0, tag - at_), sign, kind == '{');
    const auto raw = kind == '%' ? raw_at(tag) : std::nullopt;
    move_to(tag);
    if (raw) {
      move_to(raw->end);
      return raw_text();
    }
    if (kind != '#') push(kind == '{' ? TokenKind::kOutputBegin : TokenKind::kBlockBegin);
    move_to(tag + (sign == '\0' ? 2 : 3));
    if (kind == '#') {
      comment();
    } else {
      tag_tokens(kind == '{');
    }
  }

  // The end of a block or comment tag whose last two characters are `close`: a sign, the line
  // break.
  std::optional<std::size_t> block_end_at(std::size_t at, std::string_view close) const {
    const std::string_view text = std::string_view(source_).substr(std::min(at, source_.size()));
    if (text.starts_with('+') && text.substr(1).starts_with(close)) return at + 3;
    if (text.starts_with('-') && text.substr(1).starts_with(close)) return skip_space(at + 3);
    if (!text.starts_with(close)) return std::nullopt;
    return at + (text.substr(2).starts_with('\n') ? 3 : 2);
  }

  void comment() {
    if (at_ >= source_.size()) return;
    for (std::size_t i = at_; i < source_.size(); ++i) {
      if (const auto end = block_end_at(i, "#}")) return move_to(*end);
    }
    fail("Missing end of comment tag");
  }

  void raw_text() {
    if (at_ >= source_.size()) return;
    for (std::size_t i = at_; (i = source_.find("{%", i)) != std::string::npos; ++i) {
      const char sign = sign_at(i + 2);
      std::size_t word = skip_space(i + (sign == '\0' ? 2 : 3));
      if (source_.compare(word, 6, "endraw") != 0) continue;
      word = skip_space(word + 6);
      const auto end = block_end_at(word, "%}");
      if (!end) continue;
      push_text(rest().substr(0, i - at_), sign, false);
      return move_to(*end);
    }
    fail("Missing end of raw directive");
  }

  void tag_tokens(bool is_output) {
    while (at_ < source_.size()) {
      if (open_.empty()) {
        if (is_output && (follows("-}}") || follows("}}"))) {
          push(TokenKind::kOutputEnd);
          return move_to(source_[at_] == '-' ? skip_space(at_ + 3) : at_ + 2);
        }
        if (const auto end = is_output ? std::nullopt : block_end_at(at_, "%}")) {
          push(TokenKind::kBlockEnd);
          return move_to(*end);
        }
      }
      if (const std::size_t next = skip_space(at_); next != at_) {
        move_to(next);
      } else {
        token();
      }
    }
  }

  void token() {
    const char c = source_[at_];
    if (is_digit(c)) return number();
    if (is_word(c) || static_cast<unsigned char>(c) >= 0x80) return name();
    if (c == '"' || c == '\'') return string();
    operator_sign();
  }

  // (\d+_)*\d+ from `at`: where it ends, or `at`.
  std::size_t digits_at(std::size_t at) const {
    while (at < source_.size() && is_digit(source_[at])) {
      ++at;
      if (at + 1 < source_.size() && source_[at] == '_' && is_digit(source_[at + 1])) ++at;
    }
    return at;
  }

  void number() {
    if (at_ == 0 || source_[at_ - 1] != '.') {
      const std::size_t whole = digits_at(at_);
      std::size_t end = whole;
      if (end < source_.size() && source_[end] == '.') {
        const std::size_t fraction = digits_at(end + 1);
        end = fraction > end + 1 ? fraction : whole;
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        const std::size_t digits = end + (sign_at(end + 1) == '\0' ? 1 : 2);
        const std::size_t exponent = digits_at(digits);
        if (exponent > digits) end = exponent;
      }
      if (end > whole) return real_number(end);
    }
    integer_number();
  }

  std::string without_underscores(std::size_t end) const {
    std::string digits(rest().substr(0, end - at_));
    std::erase(digits, '_');
    return digits;
  }

  void real_number(std::size_t end) {
    const std::string digits = without_underscores(end);
    push(TokenKind::kFloat, digits);
    tokens_.back().real = std::strtod(digits.c_str(), nullptr);
    move_to(end);
  }

  void integer_number() {
    int base = 10;
    std::size_t end = at_ + 1;
    const auto one_of = [&](std::size_t at, std::string_view set) {
      return at < source_.size() && set.find(source_[at]) != std::string_view::npos;
    };
    const auto take = [&](std::string_view set) {
      while (one_of(end, set) || (one_of(end, "_") && one_of(end + 1, set))) ++end;
    };
    if (source_[at_] == '0') {
      constexpr std::string_view kHex = "0123456789abcdefABCDEF";
      const auto prefixed = [&](std::string_view letters, std::string_view set) {
        return one_of(at_ + 1, letters) &&
               (one_of(at_ + 2, set) || (one_of(at_ + 2, "_") && one_of(at_ + 3, set)));
      };
      std::string_view set = "0";
      if (prefixed("bB", "01")) {
        base = 2;
        set = "01";
      } else if (prefixed("oO", "01234567")) {
        base = 8;
        set = "01234567";
      } else if (prefixed("xX", kHex)) {
        base = 16;
        set = kHex;
      }
      if (base != 10) ++end;
      take(set);
    } else {
      take("0123456789");
    }
    const std::string digits = without_underscores(end);
    push(TokenKind::kInteger, digits);
    const char* first = digits.data() + (base == 10 ? 0 : 2);
    const auto parsed =
        std::from_chars(first, digits.data() + digits.size(), tokens_.back().integer, base);
    if (parsed.ec != std::errc()) fail("an integer does not fit 64 bits");
    move_to(end);
  }

  void name() {
    std::size_t end = at_;
    while (end < source_.size()) {
      std::size_t next = end;
      const char32_t c = decode_next(source_, next);
      if (c < 0x80 ? !is_word(source_[end]) : !is_alpha(c)) break;
      end = next;
    }
    if (end == at_) unexpected_character();
    push(TokenKind::kName, rest().substr(0, end - at_));
    move_to(end);
  }

  void string() {
    const char quote = source_[at_];
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) unexpected_character();
    const DecodedLiteral literal = decode_literal(rest().substr(1, end - at_ - 1));
    if (!literal.error.empty()) fail("{}", literal.error);
    push(TokenKind::kString, literal.text);
    move_to(end + 1);
  }

  void operator_sign() {
    static constexpr std::string_view kDouble[] = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kSingle = "+-/*%~[](){}<>=.:|,;";
    std::size_t size = 0;
    if (std::any_of(std::begin(kDouble), std::end(kDouble),
                    [&](std::string_view sign) { return follows(sign); })) {
      size = 2;
    } else if (kSingle.find(source_[at_]) != std::string_view::npos) {
      size = 1;
    } else {
      unexpected_character();
    }
    const std::string_view sign = rest().substr(0, size);
    balance(sign);
    push(TokenKind::kOperator, sign);
    move_to(at_ + size);
  }

  void balance(std::string_view sign) {
    if (sign == "(") open_.push_back(')');
    if (sign == "[") open_.push_back(']');
    if (sign == "{") open_.push_back('}');
    if (sign != ")" && sign != "]" && sign != "}") return;
    if (open_.empty()) fail("unexpected '{}'", sign);
    const char expected = open_.back();
    open_.pop_back();
    if (sign[0] != expected) fail("unexpected '{}', expected '{}'", sign, expected);
  }

  [[noreturn]] void unexpected_character() const {
    std::size_t end = at_;
    decode_next(source_, end);
    fail("unexpected char '{}'", source_.substr(at_, end - at_));
  }

  std::string source_;
  std::string_view where_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::string open_;  // the brackets to close
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, std::string_view where) {
  if (!is_valid_utf8(source)) {
    throw_error(ErrorCode::kInvalidData, "{}: the template is not UTF-8", where);
  }
  return Lexer(normalize(source), where).run();
}

}  // namespace moeopt::jinja
