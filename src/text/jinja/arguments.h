// The arguments of one call, matched to the names of the parameters.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace moeopt::jinja {

class Arguments {
 public:
  // `names` in order; an empty name can be given by position only. The first `required` must be
  // there. Fails on too many, unknown, doubled or missing arguments. Refers to `given`.
  Arguments(Runtime& runtime, std::string_view callee, const CallArguments& given,
            std::initializer_list<std::string_view> names, std::size_t required = 0);

  // nullptr when not given.
  const Value* get(std::size_t index) const { return found_[index]; }
  // Given and not None.
  const Value* value(std::size_t index) const;

  const Value& at(std::size_t index) const { return *found_[index]; }
  // A str, or a failure.
  std::string_view text(std::size_t index) const;
  std::int64_t integer(std::size_t index, std::int64_t fallback) const;
  bool truth(std::size_t index, bool fallback) const;

 private:
  Runtime& runtime_;
  std::string_view callee_;
  std::vector<const Value*> found_;
};

}  // namespace moeopt::jinja
