// value.name, value[item] and value[start:stop:step] as Jinja's immutable sandbox resolves them.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace moeopt::jinja {

// An attribute before an item of that name. Undefined when there is neither; fails on undefined.
Value get_attribute(Runtime& runtime, const Value& object, std::string_view name);

// An item before an attribute of that name.
Value get_item(Runtime& runtime, const Value& object, const Value& key);

// None or an int for each bound.
Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step);

// The dotted path of `map(attribute="a.b.0")`: text or int; a part made of digits is an index.
// With `fallback`, each part that is undefined becomes it.
Value get_path(Runtime& runtime, const Value& object, const Value& path,
               const Value* fallback = nullptr);

}  // namespace moeopt::jinja
