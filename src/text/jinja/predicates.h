// The tests: `value is name(arguments)`.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace moeopt::jinja {

struct Predicate {
  std::string_view name;
  bool (*holds)(Runtime&, const Value& self, const CallArguments&);
};

// nullptr when Jinja has no such test.
const Predicate* find_predicate(std::string_view name);

}  // namespace moeopt::jinja
