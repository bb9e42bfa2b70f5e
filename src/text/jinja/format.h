// Python's two ways to fill a text: "%s" % values and "{}".format(values).
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace moeopt::jinja {

// `pattern % arguments`: a tuple fills in order, a dict by name, anything else is the one argument.
// Conversions: s r d i u f F e E g G x X o c and %%, with flags, width and precision.
std::string format_percent(Runtime& runtime, const Value& pattern, const Value& arguments);

// pattern.format(...): fields by position, number or name with .attribute and [item], !s and !r,
// and the format specification of str, int and float without grouping.
std::string format_fields(Runtime& runtime, std::string_view pattern, const CallArguments& args);

}  // namespace moeopt::jinja
