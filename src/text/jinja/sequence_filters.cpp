#include <algorithm>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

Value length_filter(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "length", args, {});
  return Value(length(runtime, self));
}

Value first(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "first", args, {});
  std::optional<Value> found;
  for_each(runtime, self, [&](const Value& item) {
    found = item;
    return false;
  });
  return found ? *std::move(found) : make_undefined(runtime, "No first item, sequence was empty.");
}

bool is_reversible(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:  // it has a length and, as Python sees it, items
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kDictView:
    case Kind::kRange:
      return true;
    default:
      return false;
  }
}

Value last(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "last", args, {});
  if (!is_reversible(self)) runtime.fail("'{}' object is not reversible", type_name(self));
  const Values items = to_values(runtime, self);
  return items.empty() ? make_undefined(runtime, "No last item, sequence was empty.")
                       : items.back();
}

Value list(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "list", args, {});
  return make_list(runtime, to_values(runtime, self));
}

Value items(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "items", args, {});
  if (self.is_undefined()) return make_list(runtime, {});
  if (!self.is(Kind::kDict)) runtime.fail("Can only get item pairs from a mapping.");
  return make_list(runtime, to_values(runtime, make_view(runtime, self, DictView::Part::kItems)));
}

Value reverse(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "reverse", args, {});
  if (self.is_string()) {
    return get_slice(runtime, self, Value(), Value(), Value(std::int64_t{-1}));
  }
  if (!is_iterable(self)) runtime.fail("argument must be iterable");
  Values out = to_values(runtime, self);
  std::reverse(out.begin(), out.end());
  if (self.is(Kind::kIterator)) return make_list(runtime, std::move(out));
  return make_iterator(runtime, std::move(out), "reversed iterator");
}

Value fold_case(Runtime& runtime, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  runtime.step_characters(value.view().size());
  return make_text(runtime, to_lower(value.view()));
}

// One key an item: made once, then compared.
struct Keyed {
  Value key;
  Value item;
};

std::vector<Keyed> sorted(Runtime& runtime, std::vector<Keyed> items, bool reversed) {
  // NOTE: Python keeps equal items in order when it sorts in reverse, too.
  std::stable_sort(items.begin(), items.end(), [&](const Keyed& left, const Keyed& right) {
    return reversed ? less(runtime, right.key, left.key) : less(runtime, left.key, right.key);
  });
  return items;
}

Value values_of(Runtime& runtime, std::vector<Keyed> keyed) {
  Values out;
  out.reserve(keyed.size());
  for (Keyed& entry : keyed) out.push_back(std::move(entry.item));
  return make_list(runtime, std::move(out));
}

// The keys of attribute="a,b.c": a list, as Jinja compares them.
Value sort_key(Runtime& runtime, const Value& item, const Value& attribute, bool case_sensitive) {
  if (!attribute.is_string()) {
    return make_list(runtime,
                     {fold_case(runtime, get_path(runtime, item, attribute), case_sensitive)});
  }
  Values keys;
  std::string_view rest = attribute.view();
  for (bool more = true; more;) {
    const std::size_t comma = rest.find(',');
    const Value path = make_text(runtime, std::string(rest.substr(0, comma)));
    more = comma != std::string_view::npos;
    if (more) rest.remove_prefix(comma + 1);
    keys.push_back(fold_case(runtime, get_path(runtime, item, path), case_sensitive));
  }
  return make_list(runtime, std::move(keys));
}

Value sort(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "sort", args, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = given.truth(1, false);
  const Value attribute = given.value(2) == nullptr ? Value() : given.at(2);
  std::vector<Keyed> keyed;
  for_each(runtime, self, [&](const Value& item) {
    keyed.push_back({sort_key(runtime, item, attribute, case_sensitive), item});
    return true;
  });
  return values_of(runtime, sorted(runtime, std::move(keyed), given.truth(0, false)));
}

Value dictsort(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string_view by = given.get(1) == nullptr ? "key" : given.text(1);
  if (by != "key" && by != "value") {
    runtime.fail("You can only sort by either \"key\" or \"value\"");
  }
  if (self.is_undefined()) fail_undefined(runtime, self);
  if (!self.is(Kind::kDict)) {
    runtime.fail("'{}' object has no attribute 'items'", type_name(self));
  }
  const bool case_sensitive = given.truth(0, false);
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : self.dict().items) {
    keyed.push_back({fold_case(runtime, by == "key" ? key : value, case_sensitive),
                     make_tuple(runtime, {key, value})});
  }
  return values_of(runtime, sorted(runtime, std::move(keyed), given.truth(2, false)));
}

template <bool kMax>
Value extreme(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, kMax ? "max" : "min", args, {"case_sensitive", "attribute"});
  const bool case_sensitive = given.truth(0, false);
  const Value path = given.value(1) == nullptr ? Value() : given.at(1);
  std::optional<Keyed> best;
  for_each(runtime, self, [&](const Value& item) {
    Value key = fold_case(runtime, get_path(runtime, item, path), case_sensitive);
    if (!best || (kMax ? less(runtime, best->key, key) : less(runtime, key, best->key))) {
      best = Keyed{std::move(key), item};
    }
    return true;
  });
  return best ? best->item : make_undefined(runtime, "No aggregated item, sequence was empty.");
}

Value unique(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "unique", args, {"case_sensitive", "attribute"});
  const bool case_sensitive = given.truth(0, false);
  const Value path = given.value(1) == nullptr ? Value() : given.at(1);
  Values seen;
  Values out;
  for_each(runtime, self, [&](const Value& item) {
    Value key = fold_case(runtime, get_path(runtime, item, path), case_sensitive);
    check_hashable(runtime, key);
    const bool known = std::any_of(seen.begin(), seen.end(),
                                   [&](const Value& other) { return equal(runtime, other, key); });
    if (!known) {
      seen.push_back(std::move(key));
      out.push_back(item);
    }
    return true;
  });
  return make_list(runtime, std::move(out));
}

Value groupby(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = given.truth(2, false);
  const Value* fallback = given.value(1);
  std::vector<Keyed> keyed;
  for_each(runtime, self, [&](const Value& item) {
    Value key = get_path(runtime, item, given.at(0), fallback);
    keyed.push_back({fold_case(runtime, key, case_sensitive), item});
    return true;
  });
  keyed = sorted(runtime, std::move(keyed), false);
  Values groups;
  for (std::size_t start = 0; start < keyed.size();) {
    Values members;
    std::size_t end = start;
    while (end < keyed.size() && equal(runtime, keyed[start].key, keyed[end].key)) {
      members.push_back(keyed[end++].item);
    }
    Value grouper = get_path(runtime, members.front(), given.at(0), fallback);
    groups.push_back(
        make_group(runtime, std::move(grouper), make_list(runtime, std::move(members))));
    start = end;
  }
  return make_list(runtime, std::move(groups));
}

Value batch(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "batch", args, {"linecount", "fill_with"}, 1);
  const std::int64_t size = given.integer(0, 0);
  Values batches;
  Values current;
  for_each(runtime, self, [&](const Value& item) {
    if (static_cast<std::int64_t>(current.size()) == size) {
      batches.push_back(make_list(runtime, std::move(current)));
      current.clear();
    }
    current.push_back(item);
    return true;
  });
  if (!current.empty()) {
    if (given.value(1) != nullptr) {
      if (size > kMaxRange) runtime.fail("a batch holds at most {} items", kMaxRange);
      while (static_cast<std::int64_t>(current.size()) < size) current.push_back(given.at(1));
    }
    batches.push_back(make_list(runtime, std::move(current)));
  }
  return make_list(runtime, std::move(batches));
}

Value slice(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "slice", args, {"slices", "fill_with"}, 1);
  const std::int64_t count = given.integer(0, 0);
  if (count == 0) runtime.fail("integer division or modulo by zero");
  if (count > kMaxRange) runtime.fail("at most {} slices", kMaxRange);
  const Values items = to_values(runtime, self);
  const auto size = static_cast<std::int64_t>(items.size());
  Values slices;
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    runtime.step();
    const bool longer = i < size % count;
    const std::int64_t end = at + size / count + (longer ? 1 : 0);
    Values part(items.begin() + at, items.begin() + end);
    if (given.value(1) != nullptr && !longer) part.push_back(given.at(1));
    slices.push_back(make_list(runtime, std::move(part)));
    at = end;
  }
  return make_list(runtime, std::move(slices));
}

constexpr Filter kSequenceFilters[] = {
    {"batch", generated<batch>},
    {"count", length_filter},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", generated<items>},
    {"last", last},
    {"length", length_filter},
    {"list", list},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reverse", reverse},
    {"slice", generated<slice>},
    {"sort", sort},
    {"unique", generated<unique>},
};

}  // namespace

std::span<const Filter> sequence_filters() {
  return kSequenceFilters;
}

}  // namespace moeopt::jinja
