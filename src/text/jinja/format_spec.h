// One value formatted to a width and precision, shared by "%" and str.format.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace moeopt::jinja {

struct FormatSpec {
  std::string fill = " ";
  char align = '\0';  // '<', '>', '^', '=' or none: the type's own
  char sign = '-';    // '-', '+' or ' '
  bool alternate = false;
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char type = '\0';
};

inline constexpr std::int64_t kMaxFormatWidth = 100'000;
inline constexpr std::int64_t kMaxFormatPrecision = 500;

// The digits of a finite or infinite number for type e E f F g G or %, without its sign.
std::string float_digits(double magnitude, const FormatSpec& spec);
// The digits of an integer for type d b o x X, without its sign; `alternate` adds "0x".
std::string integer_digits(std::uint64_t magnitude, const FormatSpec& spec);
std::string sign_text(bool negative, char sign);

// `sign` and `body` filled up to the width.
std::string pad(const std::string& sign, const std::string& body, const FormatSpec& spec,
                char default_align);

// format(value, spec): Python's for str, int, bool and float; everything else takes no spec.
std::string format_value(Runtime& runtime, const Value& value, std::string_view spec);

}  // namespace moeopt::jinja
