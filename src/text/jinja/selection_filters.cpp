#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/predicates.h"
#include "text/jinja/python_text.h"

// The filters that apply other filters and tests to each item, and `default` and `attr`.
namespace moeopt::jinja {
namespace {

Value default_value(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "default", args, {"default_value", "boolean"});
  const bool missing = self.is_undefined() || (given.truth(1, false) && !truth(runtime, self));
  if (!missing) return self;
  return given.get(0) == nullptr ? make_text(runtime, {}) : given.at(0);
}

Value attr(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "attr", args, {"name"}, 1);
  const std::string_view name = given.text(0);
  // Attributes alone, never the items of a dict.
  const bool is_key = self.is(Kind::kDict) && find_item(runtime, self.dict(), name) != nullptr;
  Value found = get_attribute(runtime, self, name);
  if (is_key && !found.is(Kind::kFunction)) return make_missing(runtime, self, given.at(0));
  return found;
}

Value map(Runtime& runtime, const Value& self, const CallArguments& args) {
  Values out;
  if (!truth(runtime, self)) return make_list(runtime, {});
  const bool by_attribute = args.positional.empty() && !args.keyword.empty() &&
                            (args.keyword[0].first == "attribute" ||
                             args.keyword[args.keyword.size() - 1].first == "attribute");
  if (by_attribute) {
    const Arguments given(runtime, "map", args, {"attribute", "default"}, 1);
    for_each(runtime, self, [&](const Value& item) {
      out.push_back(get_path(runtime, item, given.at(0), given.value(1)));
      return true;
    });
    return make_list(runtime, std::move(out));
  }
  if (args.positional.empty()) runtime.fail("map requires a filter argument");
  const Value& name = args.positional.front();
  const Filter* filter = name.is_string() ? find_filter(name.view()) : nullptr;
  if (filter == nullptr) runtime.fail("No filter named {}.", shorten(repr(runtime, name)));
  if (filter->apply == nullptr) runtime.fail("the filter '{}' is not supported", filter->name);
  const DepthGuard guard(runtime);
  const CallArguments rest{{args.positional.begin() + 1, args.positional.end()}, args.keyword};
  for_each(runtime, self, [&](const Value& item) {
    out.push_back(filter->apply(runtime, item, rest));
    return true;
  });
  return make_list(runtime, std::move(out));
}

template <bool kByAttribute, bool kKeep>
Value choose(Runtime& runtime, const Value& self, const CallArguments& args) {
  if (!truth(runtime, self)) return make_list(runtime, {});
  if (kByAttribute && args.positional.empty()) {
    runtime.fail("Missing parameter for attribute name");
  }
  constexpr std::size_t kSkip = kByAttribute ? 1 : 0;
  const Value path = kByAttribute ? args.positional.front() : Value();
  const Predicate* predicate = nullptr;
  CallArguments rest;
  if (args.positional.size() > kSkip) {
    const Value& name = args.positional[kSkip];
    predicate = name.is_string() ? find_predicate(name.view()) : nullptr;
    if (predicate == nullptr) runtime.fail("No test named {}.", shorten(repr(runtime, name)));
    rest.positional.assign(args.positional.begin() + kSkip + 1, args.positional.end());
    rest.keyword = args.keyword;
  }
  Values out;
  for_each(runtime, self, [&](const Value& item) {
    const Value value = get_path(runtime, item, path);
    const bool holds =
        predicate == nullptr ? truth(runtime, value) : predicate->holds(runtime, value, rest);
    if (holds == kKeep) out.push_back(item);
    return true;
  });
  return make_list(runtime, std::move(out));
}

constexpr Filter kSelectionFilters[] = {
    {"attr", attr},
    {"d", default_value},
    {"default", default_value},
    {"map", generated<map>},
    {"reject", generated<choose<false, false>>},
    {"rejectattr", generated<choose<true, false>>},
    {"select", generated<choose<false, true>>},
    {"selectattr", generated<choose<true, true>>},
};

}  // namespace

std::span<const Filter> selection_filters() {
  return kSelectionFilters;
}

}  // namespace moeopt::jinja
