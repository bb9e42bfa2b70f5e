// Python's operators on template values.
#pragma once

#include <functional>
#include <string_view>

#include "text/jinja/value.h"

namespace moeopt::jinja {

enum class BinaryOp { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class CompareOp { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

Value binary(Runtime& runtime, BinaryOp op, const Value& left, const Value& right);
Value negate(Runtime& runtime, const Value& value);
Value posate(Runtime& runtime, const Value& value);

bool truth(Runtime& runtime, const Value& value);
bool equal(Runtime& runtime, const Value& left, const Value& right);
bool compare(Runtime& runtime, CompareOp op, const Value& left, const Value& right);
bool contains(Runtime& runtime, const Value& container, const Value& item);
// left < right, the order of sort.
bool less(Runtime& runtime, const Value& left, const Value& right);

bool is_hashable(const Value& value);
// Fails with "unhashable type" on what cannot be a dict key.
void check_hashable(Runtime& runtime, const Value& value);

// len(value); nothing when it has none.
std::optional<std::int64_t> length_of(const Value& value);
std::int64_t length(Runtime& runtime, const Value& value);

bool is_iterable(const Value& value);
// Visits each item until `visit` returns false; an iterator is consumed as far as visited.
void for_each(Runtime& runtime, const Value& value, const std::function<bool(const Value&)>& visit);
Values to_values(Runtime& runtime, const Value& value);

// A text of `self`'s kind: Markup when `self` is.
Value text_like(Runtime& runtime, const Value& self, std::string bytes);
// markupsafe.escape(value), as Markup.
Value escape(Runtime& runtime, const Value& value);
std::string escape_html(std::string_view text);

// The byte where `needle` starts in `text` at or after `from`, or npos, in linear time.
std::size_t find_text(std::string_view text, std::string_view needle, std::size_t from = 0);

[[noreturn]] void fail_undefined(Runtime& runtime, const Value& value);

}  // namespace moeopt::jinja
