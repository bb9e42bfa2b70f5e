// The escapes of a string literal in a template: Python's, as Jinja reads them.
#pragma once

#include <string>
#include <string_view>

namespace moeopt::jinja {

struct DecodedLiteral {
  std::string text;
  std::string error;  // empty when all is well
};

// What stands between the quotes.
DecodedLiteral decode_literal(std::string_view raw);

}  // namespace moeopt::jinja
