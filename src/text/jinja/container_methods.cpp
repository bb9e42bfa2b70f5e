#include <algorithm>
#include <span>

#include "text/jinja/arguments.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"

namespace moeopt::jinja {
namespace {

Value get(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "get", args, {"", ""}, 1);
  if (const Value* found = find_item(runtime, self.dict(), given.at(0))) return *found;
  return given.get(1) == nullptr ? Value() : *given.get(1);
}

template <DictView::Part kPart>
Value view(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "this method", args, {});
  return make_view(runtime, self, kPart);
}

// Nothing changes in place here, so a copy is the value itself.
Value copy(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "copy", args, {});
  return self;
}

Value count(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "count", args, {""}, 1);
  std::int64_t found = 0;
  for_each(runtime, self, [&](const Value& item) {
    found += equal(runtime, item, given.at(0)) ? 1 : 0;
    return true;
  });
  return Value(found);
}

Value index(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "index", args, {"", "", ""}, 1);
  const std::int64_t size = length(runtime, self);
  const auto bound = [&](std::size_t position, std::int64_t fallback) {
    const std::int64_t at = given.integer(position, fallback);
    return at < 0 ? std::max<std::int64_t>(at < -size ? 0 : at + size, 0) : at;
  };
  const std::int64_t start = bound(1, 0);
  const std::int64_t stop = bound(2, size);
  std::int64_t at = 0;
  std::optional<std::int64_t> found;
  for_each(runtime, self, [&](const Value& item) {
    if (at >= start && at < stop && equal(runtime, item, given.at(0))) found = at;
    ++at;
    return !found.has_value();
  });
  if (!found) runtime.fail("{}.index(x): x not in {}", type_name(self), type_name(self));
  return Value(*found);
}

constexpr Method allowed(std::string_view name, Native call) {
  return {name, MethodRule::kAllowed, call};
}
constexpr Method mutates(std::string_view name) {
  return {name, MethodRule::kMutates, nullptr};
}
constexpr Method unsupported(std::string_view name) {
  return {name, MethodRule::kUnsupported, nullptr};
}

constexpr Method kDictMethods[] = {
    allowed("get", get),
    allowed("items", view<DictView::Part::kItems>),
    allowed("keys", view<DictView::Part::kKeys>),
    allowed("values", view<DictView::Part::kValues>),
    allowed("copy", copy),
    mutates("clear"),
    mutates("pop"),
    mutates("popitem"),
    mutates("setdefault"),
    mutates("update"),
    unsupported("fromkeys"),
};

constexpr Method kListMethods[] = {
    allowed("count", count), allowed("index", index), allowed("copy", copy), mutates("append"),
    mutates("clear"),        mutates("pop"),          mutates("reverse"),    mutates("insert"),
    mutates("sort"),         mutates("extend"),       mutates("remove"),
};

constexpr Method kTupleMethods[] = {allowed("count", count), allowed("index", index)};

constexpr Method kViewMethods[] = {unsupported("mapping"), unsupported("isdisjoint")};

constexpr Method kNumberMethods[] = {
    unsupported("real"),        unsupported("imag"),
    unsupported("conjugate"),   unsupported("numerator"),
    unsupported("denominator"), unsupported("bit_length"),
    unsupported("bit_count"),   unsupported("to_bytes"),
    unsupported("from_bytes"),  unsupported("as_integer_ratio"),
    unsupported("is_integer"),  unsupported("hex"),
    unsupported("fromhex"),
};

constexpr Method kMacroMethods[] = {
    unsupported("name"),   unsupported("arguments"),     unsupported("catch_kwargs"),
    unsupported("caller"), unsupported("catch_varargs"), unsupported("explicit_caller"),
};

std::span<const Method> methods_of(Kind kind) {
  switch (kind) {
    case Kind::kDict:
      return kDictMethods;
    case Kind::kList:
      return kListMethods;
    case Kind::kTuple:
    case Kind::kRange:
      return kTupleMethods;
    case Kind::kDictView:
      return kViewMethods;
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return kNumberMethods;
    case Kind::kMacro:
      return kMacroMethods;
    default:
      return {};
  }
}

}  // namespace

const Method* find_container_method(Kind kind, std::string_view name) {
  const auto methods = methods_of(kind);
  const auto found = std::find_if(methods.begin(), methods.end(),
                                  [&](const Method& method) { return method.name == name; });
  return found == methods.end() ? nullptr : &*found;
}

}  // namespace moeopt::jinja
