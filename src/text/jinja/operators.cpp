#include "text/jinja/operators.h"

#include <algorithm>
#include <cstring>

#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

constexpr std::string_view symbol(CompareOp op) {
  switch (op) {
    case CompareOp::kLess:
      return "<";
    case CompareOp::kLessEqual:
      return "<=";
    case CompareOp::kGreater:
      return ">";
    case CompareOp::kGreaterEqual:
      return ">=";
    default:
      return "==";
  }
}

template <typename T>
bool ordered(CompareOp op, const T& left, const T& right) {
  switch (op) {
    case CompareOp::kLess:
      return left < right;
    case CompareOp::kLessEqual:
      return left <= right;
    case CompareOp::kGreater:
      return left > right;
    default:
      return left >= right;
  }
}

bool order(Runtime& runtime, CompareOp op, const Value& left, const Value& right) {
  if (left.is_undefined()) fail_undefined(runtime, left);
  if (right.is_undefined()) fail_undefined(runtime, right);
  if (left.is_integral() && right.is_integral()) {
    return ordered(op, left.integer(), right.integer());
  }
  if (left.is_number() && right.is_number()) {
    // NOTE: long double holds every int64 and every double exactly on x86.
    const auto wide = [](const Value& value) {
      return value.is_integral() ? static_cast<long double>(value.integer())
                                 : static_cast<long double>(value.real());
    };
    return ordered(op, wide(left), wide(right));
  }
  if (left.is_string() && right.is_string()) {
    runtime.step_bytes(std::min(left.view().size(), right.view().size()));
    return ordered(op, left.view(), right.view());  // UTF-8 sorts as its code points do
  }
  if (left.kind() == right.kind() && (left.is(Kind::kList) || left.is(Kind::kTuple))) {
    const Values& a = left.sequence().items;
    const Values& b = right.sequence().items;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (!equal(runtime, a[i], b[i])) return order(runtime, op, a[i], b[i]);
    }
    return ordered(op, a.size(), b.size());
  }
  runtime.fail("'{}' not supported between instances of '{}' and '{}'", symbol(op), type_name(left),
               type_name(right));
}

bool equal_items(Runtime& runtime, const Values& left, const Values& right) {
  if (left.size() != right.size()) return false;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (!equal(runtime, left[i], right[i])) return false;
  }
  return true;
}

bool equal_dicts(Runtime& runtime, const Dict& left, const Dict& right) {
  if (left.items.size() != right.items.size()) return false;
  for (const auto& [key, value] : left.items) {
    const Value* other = find_item(runtime, right, key);
    if (other == nullptr || !equal(runtime, value, *other)) return false;
  }
  return true;
}

bool equal_ranges(const Range& left, const Range& right) {
  if (left.size != right.size) return false;
  if (left.size == 0) return true;
  return left.start == right.start && (left.size == 1 || left.step == right.step);
}

bool in_values(Runtime& runtime, const Values& items, const Value& item) {
  for (const Value& candidate : items) {
    if (equal(runtime, candidate, item)) return true;
  }
  return false;
}

bool in_view(Runtime& runtime, const DictView& view, const Value& item) {
  const Dict& dict = view.dict.dict();
  if (view.part == DictView::Part::kKeys) return find_item(runtime, dict, item) != nullptr;
  if (view.part == DictView::Part::kValues) {
    for (const auto& [key, value] : dict.items) {
      if (equal(runtime, value, item)) return true;
    }
    return false;
  }
  if (!item.is(Kind::kTuple) || item.sequence().items.size() != 2) return false;
  const Value* value = find_item(runtime, dict, item.sequence().items[0]);
  return value != nullptr && equal(runtime, *value, item.sequence().items[1]);
}

}  // namespace

void fail_undefined(Runtime& runtime, const Value& value) {
  runtime.fail_text(value.undefined().message);
}

bool truth(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.boolean();
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.real() != 0;
    case Kind::kLoop:
      return true;
    default: {
      runtime.step();
      const auto size = length_of(value);
      return !size || *size != 0;
    }
  }
}

bool equal(Runtime& runtime, const Value& left, const Value& right) {
  runtime.step();
  if (left.is_integral() && right.is_integral()) return left.integer() == right.integer();
  if (left.is_number() && right.is_number()) {
    return !(left.is(Kind::kFloat) && left.real() != left.real()) &&
           order(runtime, CompareOp::kLessEqual, left, right) &&
           order(runtime, CompareOp::kGreaterEqual, left, right);
  }
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      runtime.step_bytes(std::min(left.view().size(), right.view().size()));
      return left.view() == right.view();
    case Kind::kList:
    case Kind::kTuple: {
      const DepthGuard guard(runtime);
      return equal_items(runtime, left.sequence().items, right.sequence().items);
    }
    case Kind::kDict: {
      const DepthGuard guard(runtime);
      return equal_dicts(runtime, left.dict(), right.dict());
    }
    case Kind::kRange:
      return equal_ranges(left.range(), right.range());
    default:
      return left.identity() == right.identity();
  }
}

bool less(Runtime& runtime, const Value& left, const Value& right) {
  runtime.step();
  return order(runtime, CompareOp::kLess, left, right);
}

bool compare(Runtime& runtime, CompareOp op, const Value& left, const Value& right) {
  switch (op) {
    case CompareOp::kEqual:
      return equal(runtime, left, right);
    case CompareOp::kNotEqual:
      return !equal(runtime, left, right);
    case CompareOp::kIn:
      return contains(runtime, right, left);
    case CompareOp::kNotIn:
      return !contains(runtime, right, left);
    default:
      return order(runtime, op, left, right);
  }
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  runtime.step();
  switch (container.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kString:
      if (!item.is_string()) {
        runtime.fail("'in <string>' requires string as left operand, not {}", type_name(item));
      }
      runtime.step_bytes(container.view().size());
      return find_text(container.view(), item.view()) != std::string_view::npos;
    case Kind::kList:
    case Kind::kTuple:
      return in_values(runtime, container.sequence().items, item);
    case Kind::kDict:
      return find_item(runtime, container.dict(), item) != nullptr;
    case Kind::kDictView:
      return in_view(runtime, container.dict_view(), item);
    case Kind::kRange:
    case Kind::kIterator: {
      bool found = false;
      for_each(runtime, container, [&](const Value& candidate) {
        found = equal(runtime, candidate, item);
        return !found;
      });
      return found;
    }
    default:
      runtime.fail("argument of type '{}' is not iterable", type_name(container));
  }
}

bool is_hashable(const Value& value) {
  if (value.is(Kind::kList) || value.is(Kind::kDict)) return false;
  if (!value.is(Kind::kTuple)) return true;
  const Values& items = value.sequence().items;
  return std::all_of(items.begin(), items.end(), is_hashable);
}

void check_hashable(Runtime& runtime, const Value& value) {
  if (is_hashable(value)) return;
  if (!value.is(Kind::kTuple)) runtime.fail("unhashable type: '{}'", type_name(value));
  for (const Value& item : value.sequence().items) check_hashable(runtime, item);
}

std::optional<std::int64_t> length_of(const Value& value) {
  const auto of = [](std::size_t size) { return static_cast<std::int64_t>(size); };
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return of(value.text().ascii ? value.view().size() : count_code_points(value.view()));
    case Kind::kList:
    case Kind::kTuple:
      return of(value.sequence().items.size());
    case Kind::kDict:
      return of(value.dict().items.size());
    case Kind::kDictView:
      return of(value.dict_view().dict.dict().items.size());
    case Kind::kRange:
      return value.range().size;
    default:
      return std::nullopt;
  }
}

std::int64_t length(Runtime& runtime, const Value& value) {
  if (value.is_string()) runtime.step_bytes(value.view().size());
  const auto size = length_of(value);
  if (!size) runtime.fail("object of type '{}' has no len()", type_name(value));
  return *size;
}

bool is_iterable(const Value& value) {
  return length_of(value).has_value() || value.is(Kind::kIterator) || value.is(Kind::kLoop);
}

void for_each(Runtime& runtime, const Value& value,
              const std::function<bool(const Value&)>& visit) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return;
    case Kind::kString: {
      const std::string_view text = value.view();
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t start = at;
        decode_next(text, at);
        runtime.step(4);  // a text of its own for each
        if (!visit(text_like(runtime, value, std::string(text.substr(start, at - start))))) {
          return;
        }
      }
      return;
    }
    case Kind::kList:
    case Kind::kTuple:
      for (const Value& item : value.sequence().items) {
        runtime.step();
        if (!visit(item)) return;
      }
      return;
    case Kind::kDict:
      for (const auto& [key, item] : value.dict().items) {
        runtime.step();
        if (!visit(key)) return;
      }
      return;
    case Kind::kDictView: {
      const DictView& view = value.dict_view();
      for (const auto& [key, item] : view.dict.dict().items) {
        runtime.step();
        if (view.part == DictView::Part::kItems) {
          if (!visit(make_tuple(runtime, {key, item}))) return;
        } else if (!visit(view.part == DictView::Part::kKeys ? key : item)) {
          return;
        }
      }
      return;
    }
    case Kind::kRange:
      for (std::int64_t i = 0; i < value.range().size; ++i) {
        runtime.step();
        if (!visit(Value(value.range().start + i * value.range().step))) return;
      }
      return;
    case Kind::kIterator: {
      while (const auto item = value.iterator().take(runtime)) {
        if (!visit(*item)) return;
      }
      return;
    }
    default:
      runtime.fail("'{}' object is not iterable", type_name(value));
  }
}

Values to_values(Runtime& runtime, const Value& value) {
  if (value.is(Kind::kList) || value.is(Kind::kTuple)) {
    runtime.step(1 + value.sequence().items.size() / 4);
    return value.sequence().items;
  }
  Values out;
  for_each(runtime, value, [&](const Value& item) {
    out.push_back(item);
    return true;
  });
  return out;
}

Value text_like(Runtime& runtime, const Value& self, std::string bytes) {
  return make_text(runtime, std::move(bytes), self.is_string() && self.text().markup);
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

Value escape(Runtime& runtime, const Value& value) {
  if (value.is_string() && value.text().markup) return value;
  return make_text(runtime, escape_html(to_text(runtime, value)), true);
}

std::size_t find_text(std::string_view text, std::string_view needle, std::size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // NOTE: memmem is linear in glibc; std::search and string::find are quadratic at worst.
  const void* hit = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return hit == nullptr ? std::string_view::npos
                        : static_cast<std::size_t>(static_cast<const char*>(hit) - text.data());
}

}  // namespace moeopt::jinja
