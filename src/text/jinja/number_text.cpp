#include "text/jinja/number_text.h"

#include <charconv>
#include <limits>
#include <string>

#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

// Takes the single underscores between digits out; nothing when one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out.push_back(text[i]);
      continue;
    }
    const bool between = i > 0 && i + 1 < text.size() && digit_value(text[i - 1]) < 36 &&
                         digit_value(text[i + 1]) < 36;
    if (!between) return std::nullopt;
  }
  return out;
}

}  // namespace

std::optional<std::int64_t> parse_integer(Runtime& runtime, std::string_view text, int base) {
  std::string_view rest = strip(text);
  bool negative = false;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  const auto prefixed = [&](char letter, int prefix_base) {
    if (rest.size() < 2 || rest[0] != '0' || (rest[1] | 0x20) != letter) return false;
    if (base != 0 && base != prefix_base) return false;
    base = prefix_base;
    rest.remove_prefix(rest.size() > 2 && rest[2] == '_' ? 3 : 2);
    return true;
  };
  const bool has_prefix = prefixed('x', 16) || prefixed('o', 8) || prefixed('b', 2);
  const auto digits = without_underscores(rest);
  if (!digits || digits->empty()) return std::nullopt;
  if (base == 0) {
    base = 10;
    const bool zeros = digits->find_first_not_of('0') == std::string::npos;
    if (!has_prefix && digits->front() == '0' && !zeros) return std::nullopt;
  }
  for (const char c : *digits) {
    if (digit_value(c) >= base) return std::nullopt;
  }
  std::int64_t value = 0;
  for (const char c : *digits) {
    if (__builtin_mul_overflow(value, base, &value) ||
        __builtin_sub_overflow(value, digit_value(c), &value)) {
      runtime.fail("an integer does not fit 64 bits");
    }
  }
  if (negative) return value;
  if (value == std::numeric_limits<std::int64_t>::min()) {
    runtime.fail("an integer does not fit 64 bits");
  }
  return -value;
}

std::optional<double> parse_float(std::string_view text) {
  const auto digits = without_underscores(strip(text));
  if (!digits) return std::nullopt;
  std::string_view rest = *digits;
  bool negative = false;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  const std::string word = to_lower(rest);
  double value = 0;
  if (word == "inf" || word == "infinity") {
    value = std::numeric_limits<double>::infinity();
  } else if (word == "nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    if (rest.empty() || !(rest[0] == '.' || (rest[0] >= '0' && rest[0] <= '9'))) {
      return std::nullopt;
    }
    const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (parsed.ptr != rest.data() + rest.size()) return std::nullopt;
    // Too large or too small: strtod says which.
    if (parsed.ec == std::errc::result_out_of_range)
      value = std::strtod(std::string(rest).c_str(), nullptr);
    if (parsed.ec == std::errc::invalid_argument) return std::nullopt;
  }
  return negative ? -value : value;
}

}  // namespace moeopt::jinja
