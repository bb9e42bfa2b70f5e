// Values as text, to the byte what Python's str() and repr() give.
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace moeopt::jinja {

// str(value). Fails for what prints an address in Python (functions, generators).
std::string to_text(Runtime& runtime, const Value& value);

// repr(value), as inside a printed list.
std::string repr(Runtime& runtime, const Value& value);
std::string repr_text(std::string_view text);

// The shortest digits that read back equal: "1.0", "1e-05", "nan".
std::string repr_float(double value);

// For messages: cut to a length that fits a line, at a whole character.
std::string shorten(std::string_view text);

}  // namespace moeopt::jinja
