// The filters: `value | name(arguments)`.
#pragma once

#include <span>
#include <string_view>

#include "text/jinja/value.h"

namespace moeopt::jinja {

struct Filter {
  std::string_view name;
  Native apply;  // nullptr: Jinja has it, this subset has not
};

// A filter that is a generator in Python: `kWork` makes its list once that is walked.
template <Native kWork>
Value generated(Runtime& runtime, const Value& self, const CallArguments& args) {
  return make_generator(runtime, self, args, kWork);
}

// nullptr when Jinja has no such filter.
const Filter* find_filter(std::string_view name);

// The families of filters, one file each.
std::span<const Filter> text_filters();
std::span<const Filter> number_filters();
std::span<const Filter> sequence_filters();
std::span<const Filter> selection_filters();

}  // namespace moeopt::jinja
