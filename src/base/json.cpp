#include "base/json.h"

#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/file.h"
#include "base/strings.h"

namespace moeopt {
namespace {

[[noreturn]] void refuse(std::string_view where, std::string_view why) {
  throw_error(ErrorCode::kInvalidData, "{}: {}", where, why);
}

// Counts values and depth, and passes everything on.
class BoundedEvents final : public JsonEvents {
 public:
  BoundedEvents(JsonEvents& next, std::string_view where, const JsonLimits& limits)
      : next_(next), where_(where), limits_(limits) {}

  bool null() override { return count_value() && next_.null(); }
  bool boolean(bool value) override { return count_value() && next_.boolean(value); }
  bool number_integer(number_integer_t value) override {
    return count_value() && next_.number_integer(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    return count_value() && next_.number_unsigned(value);
  }
  bool number_float(number_float_t value, const string_t& text) override {
    return count_value() && next_.number_float(value, text);
  }
  bool string(string_t& value) override { return count_value() && next_.string(value); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t size) override {
    return count_value() && enter() && next_.start_object(size);
  }
  bool start_array(std::size_t size) override {
    return count_value() && enter() && next_.start_array(size);
  }
  bool end_object() override { return leave() && next_.end_object(); }
  bool end_array() override { return leave() && next_.end_array(); }
  bool key(string_t& name) override { return next_.key(name); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    std::string_view why = error.what();  // "[json.exception.parse_error.101] parse error at ..."
    if (const auto end = why.find("] "); end != std::string_view::npos) why.remove_prefix(end + 2);
    refuse(where_, fmt::format("not valid JSON at byte {}: {}", position, printable(why)));
  }

 private:
  bool count_value() {
    if (++nodes_ > limits_.nodes) {
      refuse(where_, fmt::format("more than {} JSON values", limits_.nodes));
    }
    return true;
  }
  bool enter() {
    if (++depth_ > limits_.depth) {
      refuse(where_, fmt::format("nested deeper than {}", limits_.depth));
    }
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }

  JsonEvents& next_;
  std::string_view where_;
  const JsonLimits& limits_;
  std::size_t nodes_ = 0;
  int depth_ = 0;
};

// Builds the document and refuses duplicate keys, of which nlohmann's own builder keeps the last.
template <typename Tree>
class TreeBuilder final : public JsonEvents {
 public:
  explicit TreeBuilder(std::string_view where) : where_(where) {}

  Tree take() { return std::move(root_); }

  bool null() override { return put(nullptr) != nullptr; }
  bool boolean(bool value) override { return put(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return put(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return put(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return put(value) != nullptr;
  }
  bool string(string_t& value) override { return put(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(Tree::object()); }
  bool start_array(std::size_t) override { return open(Tree::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!open_.back().keys.insert(name).second) {
      refuse(where_, fmt::format("duplicate key \"{}\"", printable(name)));
    }
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  struct Container {
    // NOTE: stays valid: a container grows only after its open children are closed.
    Tree* tree;
    std::set<std::string> keys;  // not hashed: whoever knows the hash could make it quadratic
  };

  Tree* put(Tree value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Tree& parent = *open_.back().tree;
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    auto& object = parent.template get_ref<typename Tree::object_t&>();
    if constexpr (std::is_same_v<Tree, OrderedJson>) {
      // The key is known to be new; ordered_map's own insertion would compare it with all others.
      using Entries = std::vector<typename Tree::object_t::value_type>;
      return &static_cast<Entries&>(object).emplace_back(std::move(key_), std::move(value)).second;
    } else {
      return &object.emplace(std::move(key_), std::move(value)).first->second;
    }
  }
  bool open(Tree value) {
    open_.push_back({put(std::move(value)), {}});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view where_;
  Tree root_;
  std::vector<Container> open_;
  std::string key_;
};

template <typename Tree>
Tree parse_tree(std::string_view text, std::string_view where, const JsonLimits& limits) {
  TreeBuilder<Tree> builder(where);
  stream_json(text, where, builder, limits);
  return builder.take();
}

}  // namespace

void stream_json(std::string_view text, std::string_view where, JsonEvents& events,
                 const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    refuse(where, fmt::format("{} bytes of JSON, the limit is {}", text.size(), limits.bytes));
  }
  // nlohmann's lexer takes a NUL byte for the end of the text and would ignore what follows it.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    refuse(where, fmt::format("not valid JSON at byte {}: NUL byte", nul + 1));
  }
  BoundedEvents bounded(events, where, limits);
  const bool complete = Json::sax_parse(text, &bounded);
  MOEOPT_CHECK(complete);
}

Json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits) {
  return parse_tree<Json>(text, where, limits);
}

OrderedJson parse_ordered_json(std::string_view text, std::string_view where,
                               const JsonLimits& limits) {
  return parse_tree<OrderedJson>(text, where, limits);
}

Json parse_json_file(const std::filesystem::path& file, const JsonLimits& limits) {
  return parse_json(read_file(file, limits.bytes), file.string(), limits);
}

}  // namespace moeopt
