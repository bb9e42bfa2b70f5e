#include "text/jinja/predicates.h"

#include <algorithm>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

template <bool (*kHolds)(const Value&)>
bool plain(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "this test", args, {});
  return kHolds(self);
}

bool is_defined(const Value& value) {
  return !value.is_undefined();
}
bool is_undefined(const Value& value) {
  return value.is_undefined();
}
bool is_none(const Value& value) {
  return value.is_none();
}
bool is_boolean(const Value& value) {
  return value.is(Kind::kBool);
}
bool is_true(const Value& value) {
  return value.is(Kind::kBool) && value.boolean();
}
bool is_false(const Value& value) {
  return value.is(Kind::kBool) && !value.boolean();
}
bool is_integer(const Value& value) {
  return value.is(Kind::kInt);
}
bool is_float(const Value& value) {
  return value.is(Kind::kFloat);
}
bool is_number(const Value& value) {
  return value.is_number();
}
bool is_string(const Value& value) {
  return value.is_string();
}
bool is_mapping(const Value& value) {
  return value.is(Kind::kDict);
}
bool is_escaped(const Value& value) {
  return value.is_string() && value.text().markup;
}

bool is_sequence(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
      return true;
    default:
      return false;
  }
}

bool is_callable(const Value& value) {
  // An undefined can be called in Python: it fails then, which is why it counts.
  return value.is(Kind::kFunction) || value.is(Kind::kMacro) || value.is(Kind::kLoop) ||
         value.is_undefined();
}

template <std::int64_t kRest>
bool has_rest(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "this test", args, {});
  const Value rest = binary(runtime, BinaryOp::kModulo, self, Value(std::int64_t{2}));
  return equal(runtime, rest, Value(kRest));
}

bool divisible_by(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "divisibleby", args, {"num"}, 1);
  const Value rest = binary(runtime, BinaryOp::kModulo, self, given.at(0));
  return equal(runtime, rest, Value(std::int64_t{0}));
}

template <CompareOp kOp>
bool compares(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "this test", args, {""}, 1);
  return compare(runtime, kOp, self, given.at(0));
}

bool is_in(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "in", args, {"seq"}, 1);
  return contains(runtime, given.at(0), self);
}

bool same_as(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "sameas", args, {"other"}, 1);
  const Value& other = given.at(0);
  if (self.kind() != other.kind()) return false;
  if (self.is_none()) return true;
  if (self.is(Kind::kBool)) return self.boolean() == other.boolean();
  if (self.identity() != nullptr) return self.identity() == other.identity();
  runtime.fail("the identity of a number is not supported");
}

template <bool (*kWanted)(char32_t), bool (*kOther)(char32_t)>
bool cased(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "this test", args, {});
  const std::string text = to_text(runtime, self);
  runtime.step_characters(text.size());
  bool any = false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = decode_next(text, at);
    if (kOther(c) || is_title(c)) return false;
    any |= kWanted(c);
  }
  return any;
}

bool is_iterable_value(const Value& value) {
  return is_iterable(value);
}

bool is_filter(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "filter", args, {});
  return self.is_string() && find_filter(self.view()) != nullptr;
}

bool is_test(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "test", args, {});
  return self.is_string() && find_predicate(self.view()) != nullptr;
}

constexpr Predicate kPredicates[] = {
    {"odd", has_rest<1>},
    {"even", has_rest<0>},
    {"divisibleby", divisible_by},
    {"defined", plain<is_defined>},
    {"undefined", plain<is_undefined>},
    {"filter", is_filter},
    {"test", is_test},
    {"none", plain<is_none>},
    {"boolean", plain<is_boolean>},
    {"false", plain<is_false>},
    {"true", plain<is_true>},
    {"integer", plain<is_integer>},
    {"float", plain<is_float>},
    {"lower", cased<is_lower, is_upper>},
    {"upper", cased<is_upper, is_lower>},
    {"string", plain<is_string>},
    {"mapping", plain<is_mapping>},
    {"number", plain<is_number>},
    {"sequence", plain<is_sequence>},
    {"iterable", plain<is_iterable_value>},
    {"callable", plain<is_callable>},
    {"sameas", same_as},
    {"escaped", plain<is_escaped>},
    {"in", is_in},
    {"==", compares<CompareOp::kEqual>},
    {"eq", compares<CompareOp::kEqual>},
    {"equalto", compares<CompareOp::kEqual>},
    {"!=", compares<CompareOp::kNotEqual>},
    {"ne", compares<CompareOp::kNotEqual>},
    {">", compares<CompareOp::kGreater>},
    {"gt", compares<CompareOp::kGreater>},
    {"greaterthan", compares<CompareOp::kGreater>},
    {">=", compares<CompareOp::kGreaterEqual>},
    {"ge", compares<CompareOp::kGreaterEqual>},
    {"<", compares<CompareOp::kLess>},
    {"lt", compares<CompareOp::kLess>},
    {"lessthan", compares<CompareOp::kLess>},
    {"<=", compares<CompareOp::kLessEqual>},
    {"le", compares<CompareOp::kLessEqual>},
};

}  // namespace

const Predicate* find_predicate(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kPredicates), std::end(kPredicates),
                   [&](const Predicate& predicate) { return predicate.name == name; });
  return found == std::end(kPredicates) ? nullptr : found;
}

}  // namespace moeopt::jinja
