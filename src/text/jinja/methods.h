// Methods of str, dict, list, tuple and range.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/value.h"

namespace moeopt::jinja {

enum class MethodRule {
  kAllowed,
  kMutates,      // the sandbox refuses it when called
  kUnsupported,  // Python has it and this subset has not: an error that says so
};

struct Method {
  std::string_view name;
  MethodRule rule;
  Native call;
};

// nullptr when Python has no such method either.
const Method* find_string_method(std::string_view name);
const Method* find_container_method(Kind kind, std::string_view name);

}  // namespace moeopt::jinja
