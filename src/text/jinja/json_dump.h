// json.dumps(value), as the `tojson` filter of chat templates writes it: not escaped for HTML.
#pragma once

#include <optional>
#include <string>

#include "text/jinja/value.h"

namespace moeopt::jinja {

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level; absent: everything on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// Fails on what JSON cannot say (undefined, functions, iterators, keys that are lists).
std::string dump_json(Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace moeopt::jinja
