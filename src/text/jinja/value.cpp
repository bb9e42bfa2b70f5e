#include "text/jinja/value.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

// What the work of a generator may add to the nesting of its input.
constexpr int kWorkNesting = 4;

int nesting_of(const Value& value) {
  switch (value.kind()) {
    case Kind::kList:
    case Kind::kTuple:
      return value.sequence().nesting;
    case Kind::kDict:
      return value.dict().nesting;
    case Kind::kDictView:
      return value.dict_view().dict.dict().nesting + 1;
    case Kind::kIterator:
      return value.iterator().nesting;
    case Kind::kFunction:
      return value.function().nesting;
    default:
      return 0;
  }
}

int nest(Runtime& runtime, int nesting, const Value& value) {
  const int outer = std::max(nesting, nesting_of(value) + 1);
  if (outer > kMaxNesting) runtime.fail("lists and dicts nested deeper than {}", kMaxNesting);
  return outer;
}

Value make_sequence(Runtime& runtime, Kind kind, Values items, bool grouped = false) {
  runtime.step(1 + items.size() / 8);
  int nesting = 1;
  for (const Value& item : items) nesting = nest(runtime, nesting, item);
  auto sequence =
      std::make_shared<Sequence>(runtime, sizeof(Sequence) + items.capacity() * sizeof(Value));
  sequence->items = std::move(items);
  sequence->nesting = nesting;
  sequence->grouped = grouped;
  return Value(kind, std::move(sequence));
}

Value dict_of_unique(Runtime& runtime, std::vector<std::pair<Value, Value>> items) {
  int nesting = 1;
  for (const auto& [key, value] : items) {
    nesting = nest(runtime, nest(runtime, nesting, key), value);
  }
  auto dict =
      std::make_shared<Dict>(runtime, sizeof(Dict) + items.capacity() * sizeof(items.front()));
  dict->items = std::move(items);
  dict->nesting = nesting;
  return Value(Kind::kDict, std::move(dict));
}

Value from_json_at(Runtime& runtime, const nlohmann::ordered_json& json, int depth) {
  using Type = nlohmann::ordered_json::value_t;
  runtime.step();
  if (depth > kMaxNesting) runtime.fail("inputs nested deeper than {}", kMaxNesting);
  switch (json.type()) {
    case Type::boolean:
      return Value(json.get<bool>());
    case Type::number_integer:
      return Value(json.get<std::int64_t>());
    case Type::number_unsigned: {
      const auto number = json.get<std::uint64_t>();
      if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        runtime.fail("integer {} in the inputs does not fit 64 bits", number);
      }
      return Value(static_cast<std::int64_t>(number));
    }
    case Type::number_float:
      return Value(json.get<double>());
    case Type::string: {
      const auto& bytes = json.get_ref<const std::string&>();
      if (!is_valid_utf8(bytes)) runtime.fail("a string of the inputs is not UTF-8");
      return make_text(runtime, bytes);
    }
    case Type::array: {
      Values items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json_at(runtime, item, depth + 1));
      return make_list(runtime, std::move(items));
    }
    case Type::object: {
      std::vector<std::pair<Value, Value>> items;
      items.reserve(json.size());
      for (const auto& [key, item] : json.items()) {
        if (!is_valid_utf8(key)) runtime.fail("a key of the inputs is not UTF-8");
        Value name = make_text(runtime, key);
        items.emplace_back(std::move(name), from_json_at(runtime, item, depth + 1));
      }
      return dict_of_unique(runtime, std::move(items));
    }
    default:
      return Value();
  }
}

}  // namespace

std::int64_t Value::integer() const {
  return kind_ == Kind::kBool ? static_cast<std::int64_t>(boolean())
                              : std::get<std::int64_t>(data_);
}

double Value::real() const {
  return kind_ == Kind::kFloat ? std::get<double>(data_) : static_cast<double>(integer());
}

const Text& Value::text() const {
  MOEOPT_CHECK(kind_ == Kind::kString);
  return object<Text>();
}

std::string_view Value::view() const {
  return text().bytes;
}

const Sequence& Value::sequence() const {
  MOEOPT_CHECK((kind_ == Kind::kList || kind_ == Kind::kTuple));
  return object<Sequence>();
}

const Dict& Value::dict() const {
  MOEOPT_CHECK(kind_ == Kind::kDict);
  return object<Dict>();
}

const DictView& Value::dict_view() const {
  MOEOPT_CHECK(kind_ == Kind::kDictView);
  return object<DictView>();
}

const Range& Value::range() const {
  MOEOPT_CHECK(kind_ == Kind::kRange);
  return object<Range>();
}

Iterator& Value::iterator() const {
  MOEOPT_CHECK(kind_ == Kind::kIterator);
  return object<Iterator>();
}

Namespace& Value::name_space() const {
  MOEOPT_CHECK(kind_ == Kind::kNamespace);
  return object<Namespace>();
}

const Function& Value::function() const {
  MOEOPT_CHECK(kind_ == Kind::kFunction);
  return object<Function>();
}

const Undefined& Value::undefined() const {
  MOEOPT_CHECK(kind_ == Kind::kUndefined);
  return object<Undefined>();
}

const Object* Value::identity() const {
  const auto* object = std::get_if<std::shared_ptr<Object>>(&data_);
  return object == nullptr ? nullptr : object->get();
}

Value make_text(Runtime& runtime, std::string bytes, bool markup) {
  runtime.step_bytes(bytes.size());
  auto text = std::make_shared<Text>(runtime, sizeof(Text) + bytes.size());
  text->ascii = is_ascii(bytes);
  text->bytes = std::move(bytes);
  text->markup = markup;
  return Value(Kind::kString, std::move(text));
}

Value make_literal(std::string bytes) {
  auto text = std::make_shared<Text>();
  text->ascii = is_ascii(bytes);
  text->bytes = std::move(bytes);
  return Value(Kind::kString, std::move(text));
}

Value make_list(Runtime& runtime, Values items) {
  return make_sequence(runtime, Kind::kList, std::move(items));
}

Value make_tuple(Runtime& runtime, Values items) {
  return make_sequence(runtime, Kind::kTuple, std::move(items));
}

Value make_group(Runtime& runtime, Value grouper, Value list) {
  return make_sequence(runtime, Kind::kTuple, {std::move(grouper), std::move(list)}, true);
}

Value make_dict(Runtime& runtime, std::vector<std::pair<Value, Value>> items) {
  Dict unique(runtime, 0);
  unique.items.reserve(items.size());
  for (std::pair<Value, Value>& item : items) {
    if (const Value* there = find_item(runtime, unique, item.first); there != nullptr) {
      *const_cast<Value*>(there) = std::move(item.second);
    } else {
      unique.items.push_back(std::move(item));
    }
  }
  return dict_of_unique(runtime, std::move(unique.items));
}

Value make_view(Runtime& runtime, const Value& dict, DictView::Part part) {
  auto view = std::make_shared<DictView>(runtime, sizeof(DictView));
  view->dict = dict;
  view->part = part;
  return Value(Kind::kDictView, std::move(view));
}

Value make_range(Runtime& runtime, std::int64_t start, std::int64_t stop, std::int64_t step) {
  if (step == 0) runtime.fail("range() arg 3 must not be zero");
  // NOTE: in unsigned arithmetic, as stop - start need not fit an int64.
  const bool any = step > 0 ? start < stop : start > stop;
  const std::uint64_t distance =
      step > 0 ? static_cast<std::uint64_t>(stop) - static_cast<std::uint64_t>(start)
               : static_cast<std::uint64_t>(start) - static_cast<std::uint64_t>(stop);
  const std::uint64_t stride =
      step > 0 ? static_cast<std::uint64_t>(step) : 0 - static_cast<std::uint64_t>(step);
  const std::uint64_t size = any ? (distance - 1) / stride + 1 : 0;
  if (size > static_cast<std::uint64_t>(kMaxRange)) {
    runtime.fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", kMaxRange);
  }
  auto range = std::make_shared<Range>(runtime, sizeof(Range));
  range->start = start;
  range->stop = stop;
  range->step = step;
  range->size = static_cast<std::int64_t>(size);
  return Value(Kind::kRange, std::move(range));
}

Value make_iterator(Runtime& runtime, Values items, std::string_view type_name) {
  int nesting = 1;
  for (const Value& item : items) nesting = nest(runtime, nesting, item);
  auto iterator =
      std::make_shared<Iterator>(runtime, sizeof(Iterator) + items.capacity() * sizeof(Value));
  iterator->items = std::move(items);
  iterator->nesting = nesting;
  iterator->type_name = type_name;
  return Value(Kind::kIterator, std::move(iterator));
}

Value make_generator(Runtime& runtime, Value input, CallArguments args, Native work) {
  runtime.step();
  auto iterator = std::make_shared<Iterator>(
      runtime, sizeof(Iterator) + args.positional.capacity() * sizeof(Value));
  int nesting = nest(runtime, 1, input);
  for (const Value& argument : args.positional) nesting = nest(runtime, nesting, argument);
  for (const auto& [name, argument] : args.keyword) nesting = nest(runtime, nesting, argument);
  iterator->nesting = nesting + kWorkNesting;
  iterator->work = work;
  iterator->input = std::move(input);
  iterator->args = std::move(args);
  return Value(Kind::kIterator, std::move(iterator));
}

std::optional<Value> Iterator::take(Runtime& runtime) {
  runtime.step();
  if (working) runtime.fail("generator already executing");
  if (work != nullptr) {
    const DepthGuard guard(runtime);
    working = true;
    const Value made = std::exchange(work, nullptr)(runtime, input, args);
    working = false;
    input = Value();
    args = {};
    // What holds this iterator was measured with the nesting it had before.
    if (nesting_of(made) > nesting) {
      runtime.fail("lists and dicts nested deeper than {}", kMaxNesting);
    }
    items = made.sequence().items;
  }
  if (next >= items.size()) return std::nullopt;
  return items[next++];
}

Value make_function(Runtime& runtime, std::string name, Value self, Native call) {
  auto function = std::make_shared<Function>(runtime, sizeof(Function) + name.size());
  function->name = std::move(name);
  function->nesting = nest(runtime, 1, self);
  function->self = std::move(self);
  function->call = call;
  return Value(Kind::kFunction, std::move(function));
}

Value make_undefined(Runtime& runtime, std::string message) {
  auto undefined = std::make_shared<Undefined>(runtime, sizeof(Undefined) + message.size());
  undefined->message = std::move(message);
  return Value(Kind::kUndefined, std::move(undefined));
}

Value make_missing(Runtime& runtime, const Value& owner, const Value& name) {
  std::string type(type_name(owner));
  if (owner.is_none()) {
    type = "None";
  } else if (owner.is(Kind::kNamespace)) {
    type = "jinja2.utils.Namespace object";
  } else {
    type += " object";
  }
  if (!name.is_string()) {
    return make_undefined(runtime,
                          fmt::format("{} has no element {}", type, shorten(repr(runtime, name))));
  }
  return make_undefined(
      runtime, fmt::format("'{}' has no attribute {}", type, shorten(repr(runtime, name))));
}

Value from_json(Runtime& runtime, const nlohmann::ordered_json& json) {
  return from_json_at(runtime, json, 1);
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.text().markup ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return value.sequence().grouped ? "_GroupTuple" : "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kDictView:
      switch (value.dict_view().part) {
        case DictView::Part::kKeys:
          return "dict_keys";
        case DictView::Part::kValues:
          return "dict_values";
        case DictView::Part::kItems:
          return "dict_items";
      }
      return "dict_keys";
    case Kind::kRange:
      return "range";
    case Kind::kIterator:
      return value.iterator().type_name;
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kFunction:
      return "function";
    case Kind::kMacro:
      return "Macro";
    case Kind::kLoop:
      return "LoopContext";
  }
  return "object";
}

const Value* find_item(Runtime& runtime, const Dict& dict, const Value& key) {
  if (key.is_string()) return find_item(runtime, dict, key.view());
  check_hashable(runtime, key);
  for (const auto& [name, value] : dict.items) {
    if (equal(runtime, name, key)) return &value;
  }
  return nullptr;
}

const Value* find_item(Runtime& runtime, const Dict& dict, std::string_view key) {
  runtime.step(1 + dict.items.size() / 16);
  for (const auto& [name, value] : dict.items) {
    if (name.is_string() && name.view() == key) return &value;
  }
  return nullptr;
}

}  // namespace moeopt::jinja
