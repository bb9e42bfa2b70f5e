#include "text/jinja/format_spec.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

std::int64_t parse_count(std::string_view text, std::size_t& at, std::int64_t limit,
                         Runtime& runtime) {
  std::int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = value * 10 + (text[at] - '0');
    if (value > limit) runtime.fail("a format asks for more than {} characters", limit);
  }
  return value;
}

bool is_align(char c) {
  return c == '<' || c == '>' || c == '^' || c == '=';
}

FormatSpec parse_spec(Runtime& runtime, std::string_view text) {
  FormatSpec spec;
  std::size_t at = 0;
  if (!text.empty()) {
    std::size_t after_fill = 0;
    decode_next(text, after_fill);
    if (after_fill < text.size() && is_align(text[after_fill])) {
      spec.fill = text.substr(0, after_fill);
      spec.align = text[after_fill];
      at = after_fill + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      at = 1;
    }
  }
  const auto follows = [&](char c) { return at < text.size() && text[at] == c; };
  if (follows('+') || follows('-') || follows(' ')) spec.sign = text[at++];
  if (follows('#')) {
    spec.alternate = true;
    ++at;
  }
  if (follows('0')) {
    if (spec.align == '\0') {
      spec.fill = "0";
      spec.align = '=';
    }
    ++at;
  }
  spec.width = parse_count(text, at, kMaxFormatWidth, runtime);
  if (follows(',') || follows('_')) runtime.fail("digit grouping in a format is not supported");
  if (follows('.')) {
    const std::size_t digits = ++at;
    spec.precision = parse_count(text, at, kMaxFormatPrecision, runtime);
    if (at == digits) runtime.fail("Format specifier missing precision");
  }
  if (at < text.size()) spec.type = text[at++];
  runtime.step(1 + 8 * static_cast<std::size_t>(std::max<std::int64_t>(spec.precision, 0)));
  if (at != text.size()) runtime.fail("Invalid format specifier '{}'", shorten(text));
  return spec;
}

[[noreturn]] void fail_code(Runtime& runtime, const FormatSpec& spec, const Value& value) {
  runtime.fail("Unknown format code '{}' for object of type '{}'", std::string(1, spec.type),
               type_name(value));
}

std::string format_string(Runtime& runtime, const Value& value, const FormatSpec& spec) {
  if (spec.type != '\0' && spec.type != 's') fail_code(runtime, spec, value);
  if (spec.align == '=') {
    // A '0' before the width means left-aligned zeros for a str.
    runtime.fail("'=' alignment not allowed in string format specifier");
  }
  std::string text(value.view());
  if (spec.precision >= 0) text.resize(byte_of(text, static_cast<std::size_t>(spec.precision)));
  return pad({}, text, spec, '<');
}

std::string format_integer(Runtime& runtime, const Value& value, FormatSpec spec) {
  if (std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type != '\0') {
    const double real = value.real();
    return pad(sign_text(std::signbit(real), spec.sign), float_digits(std::fabs(real), spec), spec,
               '>');
  }
  if (spec.type == 'n') spec.type = 'd';
  if (spec.precision >= 0) runtime.fail("Precision not allowed in integer format specifier");
  if (spec.type == 'c') {
    const std::int64_t code = value.integer();
    if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      runtime.fail("%c arg not in range(0x110000)");
    }
    std::string text;
    append_utf8(text, static_cast<char32_t>(code));
    return pad({}, text, spec, '<');
  }
  if (std::string_view("dboxX").find(spec.type) == std::string_view::npos && spec.type != '\0') {
    fail_code(runtime, spec, value);
  }
  const std::int64_t number = value.integer();
  const auto magnitude =
      number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
  return pad(sign_text(number < 0, spec.sign), integer_digits(magnitude, spec), spec, '>');
}

std::string format_float(Runtime& runtime, const Value& value, FormatSpec spec) {
  const double real = value.real();
  std::string digits;
  if (spec.type == '\0') {
    if (spec.precision >= 0) {
      runtime.fail("a precision without a type in a format is not supported");
    }
    digits = repr_float(std::fabs(real));
  } else {
    if (spec.type == 'n') spec.type = 'g';
    if (std::string_view("eEfFgG%").find(spec.type) == std::string_view::npos) {
      fail_code(runtime, spec, value);
    }
    digits = float_digits(std::fabs(real), spec);
  }
  return pad(sign_text(std::signbit(real) && !std::isnan(real), spec.sign), digits, spec, '>');
}

}  // namespace

std::string sign_text(bool negative, char sign) {
  if (negative) return "-";
  return sign == '-' ? std::string() : std::string(1, sign);
}

std::string float_digits(double magnitude, const FormatSpec& spec) {
  const bool capital = spec.type == 'E' || spec.type == 'F' || spec.type == 'G';
  if (!std::isfinite(magnitude)) {
    std::string word = std::isnan(magnitude) ? "nan" : "inf";
    if (capital) std::transform(word.begin(), word.end(), word.begin(), ::toupper);
    return spec.type == '%' ? word + "%" : word;
  }
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  const bool percent = spec.type == '%';
  const std::string pattern =
      fmt::format("{{:{}.{}{}}}", spec.alternate ? "#" : "", precision, percent ? 'f' : spec.type);
  const double number = percent ? magnitude * 100 : magnitude;
  std::string digits = fmt::format(fmt::runtime(pattern), number);
  return percent ? digits + "%" : digits;
}

std::string integer_digits(std::uint64_t magnitude, const FormatSpec& spec) {
  switch (spec.type) {
    case 'b':
      return fmt::format("{}{:b}", spec.alternate ? "0b" : "", magnitude);
    case 'o':
      return fmt::format("{}{:o}", spec.alternate ? "0o" : "", magnitude);
    case 'x':
      return fmt::format("{}{:x}", spec.alternate ? "0x" : "", magnitude);
    case 'X':
      return fmt::format("{}{:X}", spec.alternate ? "0X" : "", magnitude);
    default:
      return fmt::format("{}", magnitude);
  }
}

std::string pad(const std::string& sign, const std::string& body, const FormatSpec& spec,
                char default_align) {
  const auto size = static_cast<std::int64_t>(sign.size() + count_code_points(body));
  const std::int64_t missing = std::max<std::int64_t>(spec.width - size, 0);
  const char align = spec.align == '\0' ? default_align : spec.align;
  const std::int64_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string out;
  const auto fill = [&](std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) out += spec.fill;
  };
  if (align == '=') out += sign;
  fill(before);
  if (align != '=') out += sign;
  out += body;
  fill(missing - before);
  return out;
}

std::string format_value(Runtime& runtime, const Value& value, std::string_view spec) {
  runtime.step_bytes(spec.size());
  if (spec.empty()) return to_text(runtime, value);
  switch (value.kind()) {
    case Kind::kString:
      return format_string(runtime, value, parse_spec(runtime, spec));
    case Kind::kBool:
    case Kind::kInt:
      return format_integer(runtime, value, parse_spec(runtime, spec));
    case Kind::kFloat:
      return format_float(runtime, value, parse_spec(runtime, spec));
    default:
      runtime.fail("unsupported format string passed to {}.__format__", type_name(value));
  }
}

}  // namespace moeopt::jinja
