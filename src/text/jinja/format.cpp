#include "text/jinja/format.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/access.h"
#include "text/jinja/format_spec.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

// "%(name)-08.3f": one pass over the pattern, taking arguments as they are asked for.
class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const Value& pattern, const Value& arguments)
      : runtime_(runtime),
        pattern_(pattern.view()),
        markup_(pattern.text().markup),
        arguments_(arguments) {
    single_ = !arguments.is(Kind::kTuple);
  }

  std::string run() {
    while (at_ < pattern_.size()) {
      const std::size_t percent = std::min(pattern_.find('%', at_), pattern_.size());
      put(pattern_.substr(at_, percent - at_));
      at_ = percent;
      if (at_ < pattern_.size()) conversion();
    }
    // A mapping, or what looks like one to Python, may go unused.
    const bool mapping =
        single_ && !arguments_.is_string() && !arguments_.is_number() && !arguments_.is_none();
    if (taken_ < given() && !mapping) {
      runtime_.fail("not all arguments converted during string formatting");
    }
    return std::move(out_);
  }

 private:
  std::size_t given() const { return single_ ? 1 : arguments_.sequence().items.size(); }

  void put(std::string_view text) {
    runtime_.step_bytes(text.size());
    if (out_.size() + text.size() > runtime_.limits().memory_bytes) {
      runtime_.fail("the template holds more than {} bytes of values",
                    runtime_.limits().memory_bytes);
    }
    out_ += text;
  }

  char take_character() {
    if (at_ >= pattern_.size()) runtime_.fail("incomplete format");
    return pattern_[at_++];
  }

  Value take_argument() {
    if (taken_ >= given()) runtime_.fail("not enough arguments for format string");
    const std::size_t index = taken_++;
    return single_ ? arguments_ : arguments_.sequence().items[index];
  }

  std::int64_t take_count(std::int64_t limit) {
    if (at_ < pattern_.size() && pattern_[at_] == '*') {
      ++at_;
      const Value count = take_argument();
      if (!count.is(Kind::kInt)) runtime_.fail("* wants int");
      if (count.integer() > limit || count.integer() < -limit) too_wide(limit);
      return count.integer();
    }
    std::int64_t value = 0;
    while (at_ < pattern_.size() && pattern_[at_] >= '0' && pattern_[at_] <= '9') {
      value = value * 10 + (pattern_[at_++] - '0');
      if (value > limit) too_wide(limit);
    }
    return value;
  }

  [[noreturn]] void too_wide(std::int64_t limit) {
    runtime_.fail("a format asks for more than {} characters", limit);
  }

  Value named_argument() {
    if (!arguments_.is(Kind::kDict)) runtime_.fail("format requires a mapping");
    int open = 1;
    const std::size_t start = ++at_;
    while (open > 0) {
      const char c = take_character();
      open += c == '(' ? 1 : c == ')' ? -1 : 0;
    }
    const std::string_view name = pattern_.substr(start, at_ - 1 - start);
    const Value* found = find_item(runtime_, arguments_.dict(), name);
    if (found == nullptr) runtime_.fail("{}", repr_text(shorten(name)));
    return *found;
  }

  void conversion() {
    ++at_;
    FormatSpec spec;
    bool left = false;
    bool zero = false;
    std::optional<Value> named;
    if (at_ < pattern_.size() && pattern_[at_] == '(') named = named_argument();
    for (bool more = true; more && at_ < pattern_.size();) {
      switch (pattern_[at_]) {
        case '-':
          left = true;
          break;
        case '+':
          spec.sign = '+';
          break;
        case ' ':
          if (spec.sign != '+') spec.sign = ' ';
          break;
        case '#':
          spec.alternate = true;
          break;
        case '0':
          zero = true;
          break;
        default:
          more = false;
      }
      if (more) ++at_;
    }
    spec.width = take_count(kMaxFormatWidth);
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (at_ < pattern_.size() && pattern_[at_] == '.') {
      ++at_;
      spec.precision = std::max<std::int64_t>(take_count(kMaxFormatPrecision), 0);
    }
    while (at_ < pattern_.size() &&
           std::string_view("hlL").find(pattern_[at_]) != std::string_view::npos) {
      ++at_;
    }
    spec.type = take_character();
    if (spec.type == '%') return put("%");
    const Value value = named ? *named : take_argument();
    const bool number = std::string_view("srac").find(spec.type) == std::string_view::npos;
    spec.align = left ? '<' : zero && number ? '=' : '>';
    if (zero && number && !left) spec.fill = "0";
    put(converted(value, spec));
  }

  std::string converted(const Value& value, const FormatSpec& spec) {
    switch (spec.type) {
      case 's':
        return text(
            markup_ ? std::string(escape(runtime_, value).view()) : to_text(runtime_, value), spec);
      case 'r':
        return text(markup_ ? escape_html(repr(runtime_, value)) : repr(runtime_, value), spec);
      case 'c':
        return character(value, spec);
      case 'd':
      case 'i':
      case 'u':
        return integer(value, spec, true);
      case 'x':
      case 'X':
      case 'o':
        return integer(value, spec, false);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        return real(value, spec);
      default:
        runtime_.fail("unsupported format character '{}'", std::string(1, spec.type));
    }
  }

  std::string text(std::string value, const FormatSpec& spec) const {
    if (spec.precision >= 0) {
      value.resize(byte_of(value, static_cast<std::size_t>(spec.precision)));
    }
    return pad({}, value, spec, '>');
  }

  std::string character(const Value& value, const FormatSpec& spec) {
    std::string text;
    if (value.is_integral()) {
      const std::int64_t code = value.integer();
      if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
        runtime_.fail("%c arg not in range(0x110000)");
      }
      append_utf8(text, static_cast<char32_t>(code));
    } else if (value.is_string() && length(runtime_, value) == 1) {
      text = value.view();
    } else {
      runtime_.fail("%c requires int or char");
    }
    return pad({}, text, spec, '>');
  }

  std::string integer(const Value& value, FormatSpec spec, bool truncates) {
    std::int64_t number = 0;
    if (value.is_integral()) {
      number = value.integer();
    } else if (truncates && value.is(Kind::kFloat) && std::fabs(value.real()) < 9e18) {
      number = static_cast<std::int64_t>(value.real());
    } else {
      if (value.is_undefined()) fail_undefined(runtime_, value);
      runtime_.fail("%{} format: {} is required, not {}", std::string(1, spec.type),
                    truncates ? "a real number" : "an integer", type_name(value));
    }
    const auto magnitude =
        number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
    if (truncates) spec.type = 'd';
    FormatSpec plain = spec;
    plain.alternate = false;
    std::string digits = integer_digits(magnitude, plain);
    if (spec.precision > static_cast<std::int64_t>(digits.size())) {
      digits.insert(0, static_cast<std::size_t>(spec.precision) - digits.size(), '0');
    }
    std::string sign = sign_text(number < 0, spec.sign);
    if (spec.alternate && spec.type != 'd') sign += std::string("0") + spec.type;
    return pad(sign, digits, spec, '>');
  }

  std::string real(const Value& value, const FormatSpec& spec) {
    if (value.is_undefined()) fail_undefined(runtime_, value);
    if (!value.is_number()) runtime_.fail("must be real number, not {}", type_name(value));
    runtime_.step(1 + 8 * static_cast<std::size_t>(std::max<std::int64_t>(spec.precision, 0)));
    const double number = value.real();
    return pad(sign_text(std::signbit(number) && !std::isnan(number), spec.sign),
               float_digits(std::fabs(number), spec), spec, '>');
  }

  Runtime& runtime_;
  std::string_view pattern_;
  bool markup_;
  const Value& arguments_;
  bool single_ = false;
  std::size_t at_ = 0;
  std::size_t taken_ = 0;
  std::string out_;
};

}  // namespace

std::string format_percent(Runtime& runtime, const Value& pattern, const Value& arguments) {
  return PercentFormatter(runtime, pattern, arguments).run();
}

}  // namespace moeopt::jinja
