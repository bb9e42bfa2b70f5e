// Turns a template into its tree.
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace moeopt::jinja {

// Ten times the longest template in use, and the most that is parsed.
inline constexpr std::size_t kMaxTemplateBytes = std::size_t{256} << 10;

// Throws Error(kInvalidData), "where:line: message", on what Jinja would not compile either, on
// what this subset leaves out (include, import, extends, block, autoescape) and on trees deeper
// than kMaxTreeDepth.
Body parse_template(std::string_view source, std::string_view where);

}  // namespace moeopt::jinja
