#include "text/jinja/arguments.h"

#include <algorithm>

#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace moeopt::jinja {

Arguments::Arguments(Runtime& runtime, std::string_view callee, const CallArguments& given,
                     std::initializer_list<std::string_view> names, std::size_t required)
    : runtime_(runtime), callee_(callee), found_(names.size(), nullptr) {
  if (given.positional.size() > names.size()) {
    runtime.fail("{}() takes at most {} argument(s) ({} given)", callee, names.size(),
                 given.positional.size());
  }
  for (std::size_t i = 0; i < given.positional.size(); ++i) found_[i] = &given.positional[i];
  for (const auto& [name, value] : given.keyword) {
    const auto* match = name.empty() ? names.end() : std::find(names.begin(), names.end(), name);
    if (match == names.end()) {
      runtime.fail("{}() got an unexpected keyword argument '{}'", callee, shorten(name));
    }
    const Value*& slot = found_[static_cast<std::size_t>(match - names.begin())];
    if (slot != nullptr) {
      runtime.fail("{}() got multiple values for argument '{}'", callee, name);
    }
    slot = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (found_[i] == nullptr) {
      runtime.fail("{}() missing required argument {}", callee, i + 1);
    }
  }
}

const Value* Arguments::value(std::size_t index) const {
  const Value* given = found_[index];
  return given == nullptr || given->is_none() ? nullptr : given;
}

std::string_view Arguments::text(std::size_t index) const {
  const Value& given = *found_[index];
  if (!given.is_string()) {
    runtime_.fail("{}() argument {} must be str, not {}", callee_, index + 1, type_name(given));
  }
  return given.view();
}

std::int64_t Arguments::integer(std::size_t index, std::int64_t fallback) const {
  const Value* given = found_[index];
  if (given == nullptr) return fallback;
  if (!given->is_integral()) {
    runtime_.fail("'{}' object cannot be interpreted as an integer", type_name(*given));
  }
  return given->integer();
}

bool Arguments::truth(std::size_t index, bool fallback) const {
  const Value* given = found_[index];
  return given == nullptr ? fallback : jinja::truth(runtime_, *given);
}

}  // namespace moeopt::jinja
