#include "text/regex_syntax.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace moeopt {
namespace {

// PCRE2's own \s holds U+180E, Oniguruma's does not.
constexpr std::string_view kSpace = R"(\p{White_Space})";
constexpr std::string_view kNotSpace = R"(\P{White_Space})";

constexpr std::array<std::string_view, 12> kScripts = {
    "Arabic", "Cyrillic", "Devanagari", "Greek",    "Han",  "Hangul",
    "Hebrew", "Hiragana", "Katakana",   "Armenian", "Thai", "Georgian"};

bool is_ascii_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_ascii_digit(char c) {
  return c >= '0' && c <= '9';
}

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (!done()) item();
    return std::move(out_);
  }

 private:
  bool done() const { return at_ >= pattern_.size(); }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  bool take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: {} at byte {} of the regular expression is not supported", where_,
                            what, at_));
  }

  void item() {
    const char c = peek();
    if (c == '(') return group();
    if (c == '|' || c == '^' || c == '$') {
      out_ += c == '|' ? "|" : (c == '^' ? "(?m:^)" : "(?m:$)");
      ++at_;
      return;
    }
    if (c == '*' || c == '+' || c == '?') refuse("a repetition of nothing");
    if (c == '[') {
      character_class();
    } else if (c == '\\') {
      ++at_;
      escape();
    } else if (c == '.' || c == ')') {
      out_.push_back(c);
      ++at_;
    } else {
      literal();
    }
    repetition();
  }

  void group() {
    static constexpr std::array<std::string_view, 7> kOpenings = {"(?:",  "(?=",  "(?!", "(?>",
                                                                  "(?<=", "(?<!", "(?i:"};
    for (const std::string_view opening : kOpenings) {
      if (take(opening)) {
        out_ += opening;
        return;
      }
    }
    if (peek(1) == '?' || peek(1) == '*') refuse("a group of this kind");
    ++at_;
    out_ += "(?:";
  }

  void repetition() {
    const char c = peek();
    if (c == '*' || c == '+' || c == '?') {
      out_.push_back(c);
      ++at_;
      if (peek() == '?' || peek() == '+') {
        out_.push_back(peek());
        ++at_;
      }
    } else if (c == '{') {
      interval();
    } else {
      return;
    }
    const char next = peek();
    if (next == '*' || next == '+' || next == '?') refuse("a repetition of a repetition");
    if (next == '{') refuse("a repetition of a repetition");
  }

  void interval() {
    ++at_;
    const std::optional<int> low = number();
    const bool range = take(",");
    const std::optional<int> high = range ? number() : low;
    if (!take("}") || (!low && !high)) refuse("this use of {");
    if (high && low.value_or(0) > *high) refuse("an interval that runs down");
    out_ += fmt::format("{{{}", low.value_or(0));
    if (range) out_ += high ? fmt::format(",{}", *high) : ",";
    out_ += "}";
  }

  std::optional<int> number() {
    if (!is_ascii_digit(peek())) return std::nullopt;
    int value = 0;
    while (is_ascii_digit(peek())) {
      value = value * 10 + (peek() - '0');
      if (value > 1000) refuse("an interval above 1000");
      ++at_;
    }
    return value;
  }

  void literal() {
    const DecodedCharacter character = decode_utf8(pattern_, at_);
    put_literal(character.code_point);
    at_ += character.size_bytes;
  }

  void put_literal(char32_t code_point) {
    const bool word = code_point < 0x80 && (is_ascii_letter(static_cast<char>(code_point)) ||
                                            is_ascii_digit(static_cast<char>(code_point)));
    if (word) {
      out_.push_back(static_cast<char>(code_point));
    } else {
      out_ += fmt::format("\\x{{{:X}}}", static_cast<std::uint32_t>(code_point));
    }
  }

  // A character named by an escape (r, n, x41, ...), at_ behind the backslash; nothing for a class.
  std::optional<char32_t> escaped_character() {
    const char c = peek();
    if (done()) refuse("a backslash at the end");
    if (static_cast<unsigned char>(c) >= 0x80) {
      const DecodedCharacter character = decode_utf8(pattern_, at_);
      at_ += character.size_bytes;
      return character.code_point;
    }
    if (c == 'x' || c == 'u') {
      ++at_;
      return hexadecimal(c == 'u');
    }
    static constexpr std::string_view kNames = "rntfvae";
    static constexpr std::string_view kValues = "\r\n\t\f\v\a\x1B";
    if (const auto found = kNames.find(c); found != std::string_view::npos) {
      ++at_;
      return static_cast<char32_t>(kValues[found]);
    }
    if (is_ascii_letter(c) || is_ascii_digit(c)) return std::nullopt;
    ++at_;
    return static_cast<char32_t>(c);
  }

  char32_t hexadecimal(bool four_digits) {
    const bool braces = !four_digits && take("{");
    const std::size_t most = braces ? 6 : (four_digits ? 4 : 2);
    char32_t value = 0;
    std::size_t count = 0;
    for (; count < most && !done(); ++count, ++at_) {
      const char c = peek();
      if (is_ascii_digit(c)) {
        value = value * 16 + static_cast<char32_t>(c - '0');
      } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
        value = value * 16 + static_cast<char32_t>((c | 0x20) - 'a' + 10);
      } else {
        break;
      }
    }
    if (count == 0 || (four_digits && count != 4) || (braces && !take("}"))) refuse("this number");
    if (!braces && !four_digits && value >= 0x80) refuse("a raw byte");
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) refuse("this code point");
    return value;
  }

  void escape() {
    if (const auto character = escaped_character()) return put_literal(*character);
    if (take("s")) {
      out_ += kSpace;
    } else if (take("S")) {
      out_ += kNotSpace;
    } else if (take("d")) {
      out_ += fmt::format("[{}]", class_of_category("Nd"));
    } else if (take("D")) {
      out_ += fmt::format("[^{}]", class_of_category("Nd"));
    } else if (peek() == 'p' || peek() == 'P') {
      const bool negated = peek() == 'P';
      ++at_;
      property(negated);
    } else {
      refuse(fmt::format("\\{}", peek()));
    }
  }

  void property(bool negated) {
    const Property found = property_name();
    out_ += fmt::format("[{}{}]", negated != found.negated ? "^" : "", found.members);
  }

  struct Property {
    std::string members;  // what stands between the brackets of a class
    bool negated = false;
  };

  Property property_name() {
    if (!take("{")) refuse("a property without braces");
    const bool negated = take("^");
    const std::size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos) refuse("a property without end");
    const std::string_view name = pattern_.substr(at_, end - at_);
    Property found{"", negated};
    if (std::find(kScripts.begin(), kScripts.end(), name) != kScripts.end()) {
      found.members = fmt::format("\\p{{sc:{}}}", name);
    } else if (is_general_category(name)) {
      found.members = class_of_category(name);
    } else {
      refuse(fmt::format("property \"{}\"", name));
    }
    at_ = end + 1;
    return found;
  }

  void character_class() {
    ++at_;
    out_.push_back('[');
    if (take("^")) out_.push_back('^');
    if (peek() == ']') refuse("an empty class");
    while (!take("]")) {
      if (done()) refuse("a class without end");
      class_item();
    }
    out_.push_back(']');
  }

  void class_item() {
    const char c = peek();
    if (c == '[') refuse("a class within a class");
    if (c == '&' && peek(1) == '&') refuse("an intersection of classes");
    if (c == '-') {  // between two characters a range, else itself: the same in both
      out_.push_back('-');
      ++at_;
    } else if (c == '\\') {
      ++at_;
      class_escape();
    } else {
      literal();
    }
  }

  void class_escape() {
    if (take("b")) return put_literal(8);
    if (const auto character = escaped_character()) return put_literal(*character);
    if (take("s")) {
      out_ += kSpace;
    } else if (take("S")) {
      out_ += kNotSpace;
    } else if (take("d")) {
      out_ += class_of_category("Nd");
    } else if (take("p")) {
      const Property found = property_name();
      if (found.negated) refuse("a negated property within a class");
      out_ += found.members;
    } else {
      refuse(fmt::format("\\{} within a class", peek()));
    }
  }

  std::string_view pattern_;
  std::string_view where_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern, std::string_view where) {
  // DeepSeek-V2's. Every start within a run of white space fails like the run's first one, so that
  // only that one needs to be tried: the same matches in linear time.
  if (pattern == R"(\s+$)") return fmt::format("(?<!{0}){0}+(?m:$)", kSpace);
  return Translator(pattern, where).run();
}

}  // namespace moeopt
