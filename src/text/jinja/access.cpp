#include "text/jinja/access.h"

#include <algorithm>
#include <charconv>

#include "text/jinja/loop.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

// What every object has in Python, and no template may touch.
constexpr std::string_view kInternal[] = {
    "__class__", "__delattr__", "__dir__",    "__doc__", "__eq__",           "__format__",
    "__hash__",  "__init__",    "__new__",    "__ne__",  "__reduce__",       "__reduce_ex__",
    "__repr__",  "__setattr__", "__sizeof__", "__str__", "__getattribute__",
};

Value unsafe(Runtime& runtime, const Value& object, std::string_view name) {
  return make_undefined(runtime, fmt::format("access to attribute {} of '{}' object is unsafe.",
                                             repr_text(shorten(name)), type_name(object)));
}

Value method_value(Runtime& runtime, const Value& object, const Method& method) {
  switch (method.rule) {
    case MethodRule::kAllowed:
      return make_function(runtime, std::string(method.name), object, method.call);
    case MethodRule::kMutates:
      return unsafe(runtime, object, method.name);
    case MethodRule::kUnsupported:
      break;
  }
  runtime.fail("attribute '{}' of '{}' is not supported", method.name, type_name(object));
}

std::optional<Value> find_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  const bool internal =
      std::find(std::begin(kInternal), std::end(kInternal), name) != std::end(kInternal);
  if (internal) return unsafe(runtime, object, name);
  switch (object.kind()) {
    case Kind::kNamespace:
      for (const auto& [key, value] : object.name_space().attributes) {
        if (key != name) continue;
        return name.starts_with('_') ? unsafe(runtime, object, name) : value;
      }
      return std::nullopt;
    case Kind::kLoop:
      return object.object<Loop>().attribute(runtime, object, name);
    case Kind::kTuple:
      if (object.sequence().grouped) {
        if (name == "grouper") return object.sequence().items[0];
        if (name == "list") return object.sequence().items[1];
      }
      break;
    case Kind::kRange:
      if (name == "start") return Value(object.range().start);
      if (name == "stop") return Value(object.range().stop);
      if (name == "step") return Value(object.range().step);
      break;
    default:
      break;
  }
  const Method* method =
      object.is_string() ? find_string_method(name) : find_container_method(object.kind(), name);
  if (method == nullptr) return std::nullopt;
  return method_value(runtime, object, *method);
}

std::optional<std::size_t> normal_index(std::int64_t index, std::int64_t size) {
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  return static_cast<std::size_t>(index);
}

std::optional<Value> find_element(Runtime& runtime, const Value& object, const Value& key) {
  if (object.is(Kind::kDict)) {
    // NOTE: an unhashable key is a TypeError in Python, which Jinja turns into undefined.
    if (!is_hashable(key)) return std::nullopt;
    const Value* found = find_item(runtime, object.dict(), key);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  if (!key.is_integral()) return std::nullopt;
  switch (object.kind()) {
    case Kind::kString: {
      const auto index = normal_index(key.integer(), length(runtime, object));
      if (!index) return std::nullopt;
      const std::string_view text = object.view();
      if (object.text().ascii) return text_like(runtime, object, std::string(1, text[*index]));
      runtime.step_characters(text.size());
      const std::size_t start = byte_of(text, *index);
      std::size_t end = start;
      decode_next(text, end);
      return text_like(runtime, object, std::string(text.substr(start, end - start)));
    }
    case Kind::kList:
    case Kind::kTuple: {
      const Values& items = object.sequence().items;
      const auto index = normal_index(key.integer(), static_cast<std::int64_t>(items.size()));
      return index ? std::optional<Value>(items[*index]) : std::nullopt;
    }
    case Kind::kRange: {
      const auto index = normal_index(key.integer(), object.range().size);
      if (!index) return std::nullopt;
      return Value(object.range().start + static_cast<std::int64_t>(*index) * object.range().step);
    }
    default:
      return std::nullopt;
  }
}

struct SliceBounds {
  std::int64_t start;
  std::int64_t step;
  std::int64_t count;
};

std::int64_t bound(Runtime& runtime, const Value& value, std::int64_t fallback, std::int64_t low,
                   std::int64_t high, std::int64_t size) {
  if (value.is_none()) return fallback;
  if (!value.is_integral()) {
    runtime.fail("slice indices must be integers or None or have an __index__ method");
  }
  std::int64_t index = value.integer();
  if (index < 0) index = index < -size ? low : std::max(index + size, low);
  return std::min(index, high);
}

// PySlice_AdjustIndices, in words of our own.
SliceBounds slice_bounds(Runtime& runtime, const Value& start, const Value& stop,
                         const Value& step_value, std::int64_t size) {
  std::int64_t step = 1;
  if (!step_value.is_none()) {
    if (!step_value.is_integral()) {
      runtime.fail("slice indices must be integers or None or have an __index__ method");
    }
    step = step_value.integer();
  }
  if (step == 0) runtime.fail("slice step cannot be zero");
  step = std::clamp(step, -size - 1, size + 1);  // farther steps reach nothing more
  const bool forward = step > 0;
  const std::int64_t low = forward ? 0 : -1;
  const std::int64_t high = forward ? size : size - 1;
  const std::int64_t from = bound(runtime, start, forward ? 0 : size - 1, low, high, size);
  const std::int64_t to = bound(runtime, stop, forward ? size : -1, low, high, size);
  std::int64_t count = 0;
  if (forward && from < to) count = (to - from - 1) / step + 1;
  if (!forward && to < from) count = (from - to - 1) / -step + 1;
  return {from, step, count};
}

Value slice_text(Runtime& runtime, const Value& object, const SliceBounds& bounds) {
  const std::string_view text = object.view();
  const auto at = [&](std::int64_t i) {
    return static_cast<std::size_t>(bounds.start + i * bounds.step);
  };
  runtime.step_characters(text.size());
  std::string out;
  if (object.text().ascii) {
    for (std::int64_t i = 0; i < bounds.count; ++i) out.push_back(text[at(i)]);
  } else {
    runtime.step_characters(text.size());
    const std::vector<char32_t> points = to_code_points(text);
    for (std::int64_t i = 0; i < bounds.count; ++i) append_utf8(out, points[at(i)]);
  }
  return text_like(runtime, object, std::move(out));
}

}  // namespace

Value get_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  runtime.step();
  if (object.is_undefined()) fail_undefined(runtime, object);
  if (auto attribute = find_attribute(runtime, object, name)) return *std::move(attribute);
  if (object.is(Kind::kDict)) {
    if (const Value* found = find_item(runtime, object.dict(), name)) return *found;
  }
  return make_missing(runtime, object, make_text(runtime, std::string(name)));
}

Value get_item(Runtime& runtime, const Value& object, const Value& key) {
  runtime.step();
  if (object.is_undefined()) fail_undefined(runtime, object);
  if (auto element = find_element(runtime, object, key)) return *std::move(element);
  if (key.is_string()) {
    if (auto attribute = find_attribute(runtime, object, key.view())) {
      return *std::move(attribute);
    }
  }
  return make_missing(runtime, object, key);
}

Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  runtime.step();
  if (object.is_undefined()) fail_undefined(runtime, object);
  const bool sliceable = object.is_string() || object.is(Kind::kList) || object.is(Kind::kTuple) ||
                         object.is(Kind::kRange);
  if (!sliceable) {
    // NOTE: unlike an item that is not there, this is no undefined in Jinja.
    if (object.is(Kind::kDict)) runtime.fail("unhashable type: 'slice'");
    runtime.fail("'{}' object is not subscriptable", type_name(object));
  }
  const SliceBounds bounds = slice_bounds(runtime, start, stop, step, length(runtime, object));
  if (object.is_string()) return slice_text(runtime, object, bounds);
  if (object.is(Kind::kRange)) {
    const Range& range = object.range();
    const std::int64_t first = range.start + bounds.start * range.step;
    const std::int64_t stride = range.step * bounds.step;
    return make_range(runtime, first, first + bounds.count * stride, stride);
  }
  runtime.step(static_cast<std::size_t>(bounds.count));
  Values items;
  items.reserve(static_cast<std::size_t>(bounds.count));
  for (std::int64_t i = 0; i < bounds.count; ++i) {
    items.push_back(
        object.sequence().items[static_cast<std::size_t>(bounds.start + i * bounds.step)]);
  }
  return object.is(Kind::kList) ? make_list(runtime, std::move(items))
                                : make_tuple(runtime, std::move(items));
}

Value get_path(Runtime& runtime, const Value& object, const Value& path, const Value* fallback) {
  if (path.is_none()) return object;
  const auto follow = [&](const Value& from, const Value& key) {
    Value found = get_item(runtime, from, key);
    if (found.is_undefined() && fallback != nullptr && !fallback->is_none()) return *fallback;
    return found;
  };
  if (!path.is_string()) return follow(object, path);
  Value at = object;
  std::string_view rest = path.view();
  for (bool more = true; more;) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    more = dot != std::string_view::npos;
    if (more) rest.remove_prefix(dot + 1);
    std::int64_t index = 0;
    const bool digits = !part.empty() && std::all_of(part.begin(), part.end(),
                                                     [](char c) { return c >= '0' && c <= '9'; });
    if (digits) {
      const auto parsed = std::from_chars(part.data(), part.data() + part.size(), index);
      if (parsed.ec != std::errc()) runtime.fail("an integer does not fit 64 bits");
    }
    at = follow(at, digits ? Value(index) : make_text(runtime, std::string(part)));
  }
  return at;
}

}  // namespace moeopt::jinja
