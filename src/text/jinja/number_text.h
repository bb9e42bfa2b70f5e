// Numbers read from text, as Python's int() and float() read them.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/runtime.h"

namespace moeopt::jinja {

// int(text, base) with base 0 or 2 to 36; nothing when the text is no number. Fails when it does
// not fit 64 bits.
std::optional<std::int64_t> parse_integer(Runtime& runtime, std::string_view text, int base);

// float(text), with "inf" and "nan".
std::optional<double> parse_float(std::string_view text);

}  // namespace moeopt::jinja
