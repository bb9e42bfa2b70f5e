// The values of a template: Python's None, bool, int, float, str, list, tuple and dict, Jinja's
// undefined, and the objects that templates meet (views, ranges, iterators, namespaces, callables).
// Invariants: a container never changes after it is made (a namespace and an iterator do), its
// nesting is bounded by kMaxNesting so that nothing recurses deeper, and its bytes are counted by
// the Runtime that made it.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/runtime.h"

namespace moeopt::jinja {

// Deepest list of lists that a template may build.
inline constexpr int kMaxNesting = 120;
inline constexpr std::int64_t kMaxRange = 100'000;  // as Jinja's sandbox

enum class Kind : std::uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kDictView,
  kRange,
  kIterator,
  kNamespace,
  kFunction,
  kMacro,
  kLoop,
};

struct Object {
  Object() = default;
  Object(Runtime& runtime, std::size_t bytes) : charge(runtime, bytes) {}
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;

  MemoryCharge charge;
};

struct Text;
struct Sequence;
struct Dict;
struct DictView;
struct Range;
struct Iterator;
struct Namespace;
struct Function;
struct Undefined;

class Value {
 public:
  Value() : kind_(Kind::kNone) {}
  explicit Value(bool value) : kind_(Kind::kBool), data_(value) {}
  explicit Value(std::int64_t value) : kind_(Kind::kInt), data_(value) {}
  explicit Value(double value) : kind_(Kind::kFloat), data_(value) {}
  Value(Kind kind, std::shared_ptr<Object> object) : kind_(kind), data_(std::move(object)) {}

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_string() const { return kind_ == Kind::kString; }
  // bool counts as a number, as in Python.
  bool is_integral() const { return kind_ == Kind::kBool || kind_ == Kind::kInt; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }

  bool boolean() const { return std::get<bool>(data_); }
  // Of a bool or an int.
  std::int64_t integer() const;
  // Of a bool, an int or a float.
  double real() const;

  const Text& text() const;
  std::string_view view() const;
  const Sequence& sequence() const;
  const Dict& dict() const;
  const DictView& dict_view() const;
  const Range& range() const;
  Iterator& iterator() const;
  Namespace& name_space() const;
  const Function& function() const;
  const Undefined& undefined() const;
  template <typename T>
  T& object() const {
    return static_cast<T&>(*std::get<std::shared_ptr<Object>>(data_));
  }
  const Object* identity() const;

 private:
  Kind kind_;
  std::variant<std::monostate, bool, std::int64_t, double, std::shared_ptr<Object>> data_;
};

using Values = std::vector<Value>;

struct Undefined : Object {
  using Object::Object;
  std::string message;  // what an operation on it reports
};

// `markup` is markupsafe's Markup: made by `safe` and `escape`, it escapes what is added to it.
struct Text : Object {
  using Object::Object;
  std::string bytes;
  bool ascii = true;
  bool markup = false;
};

struct Sequence : Object {
  using Object::Object;
  Values items;
  int nesting = 1;
  bool grouped = false;  // a pair made by groupby, with .grouper and .list
};

struct Dict : Object {
  using Object::Object;
  std::vector<std::pair<Value, Value>> items;  // in order of insertion, keys unique
  int nesting = 1;
};

struct DictView : Object {
  enum class Part { kKeys, kValues, kItems };
  using Object::Object;
  Value dict;
  Part part = Part::kKeys;
};

struct Range : Object {
  using Object::Object;
  std::int64_t start = 0;
  std::int64_t stop = 0;
  std::int64_t step = 1;
  std::int64_t size = 0;
};

struct Namespace : Object {
  using Object::Object;
  std::vector<std::pair<std::string, Value>> attributes;
};

struct CallArguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

using Native = Value (*)(Runtime&, const Value& self, const CallArguments&);

// What a generator is in Python: it can be walked once, and its work is done when that begins.
// `type_name` is what Python calls it.
struct Iterator : Object {
  using Object::Object;
  // The next item, or nothing at the end.
  std::optional<Value> take(Runtime& runtime);

  Values items;
  std::size_t next = 0;
  int nesting = 1;
  std::string_view type_name = "generator";
  // Makes the list of the items from what it was given; nullptr once done.
  Native work = nullptr;
  Value input;
  CallArguments args;
  bool working = false;
};

struct Function : Object {
  using Object::Object;
  std::string name;
  Value self;
  Native call = nullptr;
  int nesting = 1;
};

Value make_text(Runtime& runtime, std::string bytes, bool markup = false);
// A literal of the template itself, counted with the template's size.
Value make_literal(std::string bytes);
Value make_list(Runtime& runtime, Values items);
Value make_tuple(Runtime& runtime, Values items);
Value make_group(Runtime& runtime, Value grouper, Value list);
// A later pair with an equal key replaces the value of the first. Fails on an unhashable key.
Value make_dict(Runtime& runtime, std::vector<std::pair<Value, Value>> items);
Value make_view(Runtime& runtime, const Value& dict, DictView::Part part);
// Fails above kMaxRange items.
Value make_range(Runtime& runtime, std::int64_t start, std::int64_t stop, std::int64_t step);
Value make_iterator(Runtime& runtime, Values items, std::string_view type_name);
// An iterator over the list that `work` will make of `input` and `args`.
Value make_generator(Runtime& runtime, Value input, CallArguments args, Native work);
Value make_function(Runtime& runtime, std::string name, Value self, Native call);
Value make_undefined(Runtime& runtime, std::string message);
// What reading attribute or item `name` of `owner` gives when it is not there.
Value make_missing(Runtime& runtime, const Value& owner, const Value& name);

// A JSON document as the values that Python's json.loads would give.
// Fails on invalid UTF-8, on an integer that does not fit 64 bits, and below kMaxNesting levels.
Value from_json(Runtime& runtime, const nlohmann::ordered_json& json);

// Python's name of the type: "str", "dict", "NoneType", ...
std::string_view type_name(const Value& value);

// The value of `key`, or nullptr. Fails on an unhashable key.
const Value* find_item(Runtime& runtime, const Dict& dict, const Value& key);
const Value* find_item(Runtime& runtime, const Dict& dict, std::string_view key);

}  // namespace moeopt::jinja
