#include "text/grammar/json_schema.h"

#include <fmt/format.h>

#include <cmath>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/strings.h"
#include "text/grammar/number_range.h"
#include "text/grammar/schema_place.h"
#include "text/grammar/schema_reference.h"

namespace moeopt {
namespace {

using Schema = nlohmann::ordered_json;

constexpr std::size_t kMostRules = 20'000;
constexpr std::size_t kMostChoices = 512;   // alternatives of one anyOf
constexpr std::size_t kMostOptional = 512;  // optional members in a row
constexpr int kMostValueDepth = 60;         // of a value in enum or const
constexpr std::string_view kTypes[] = {"object",  "array",   "string", "number",
                                       "integer", "boolean", "null"};

std::string spelt(const Schema& value) {
  return value.dump(-1, ' ', false, Schema::error_handler_t::replace);
}

std::string_view type_of(const Schema& value) {
  if (value.is_object()) return "object";
  if (value.is_array()) return "array";
  if (value.is_string()) return "string";
  if (value.is_number_integer()) return "integer";
  if (value.is_number()) return "number";
  return value.is_boolean() ? "boolean" : "null";
}

class SchemaCompiler {
 public:
  SchemaCompiler(const Schema& root, PushdownBuilder& builder, JsonRules& rules)
      : root_(root), builder_(builder), rules_(rules), references_(root) {}

  StateId compile() {
    places_.push_back({});
    const StateId entry = rule(root_, &places_.back());
    // NOTE: a rule is made when it is first named and filled in here, so that schemas may name
    // themselves and nothing recurses.
    for (std::size_t at = 0; at < tasks_.size(); ++at) {
      const Task task = tasks_[at];
      build(*task.schema, task.place, task.entry);
      if (builder_.full()) task.place->invalid("the schema is too large");
    }
    return entry;
  }

 private:
  struct Task {
    const Schema* schema;
    const SchemaPlace* place;
    StateId entry;
  };
  struct Member {
    std::string name;
    StateId value;
    bool required;
  };

  const SchemaPlace* below(const SchemaPlace* place, std::string_view key) {
    places_.push_back({place, key});
    return &places_.back();
  }
  const SchemaPlace* below(const SchemaPlace* place, std::size_t index) {
    return below(place, texts_.emplace_back(std::to_string(index)));
  }

  // The rule of a schema, to be built when there is none yet.
  StateId rule(const Schema& schema, const SchemaPlace* place) {
    const auto [known, is_new] = rules_of_.try_emplace(&schema, 0);
    if (is_new) {
      if (rules_of_.size() > kMostRules) place->invalid("the schema has too many parts");
      known->second = builder_.state();
      tasks_.push_back({&schema, place, known->second});
    }
    return known->second;
  }

  // Refuses every keyword of a kind that `allowed` does not say.
  template <typename Allowed>
  void check_keywords(const Schema& schema, const SchemaPlace* place, std::string_view beside,
                      Allowed&& allowed) {
    for (const auto& [name, value] : schema.items()) {
      const SchemaKeyword kind = schema_keyword(name);
      if (kind == SchemaKeyword::kUnknown) {
        // The root may say which draft it is and what it is called.
        if (&schema == &root_ && (name == "$schema" || name == "$id")) continue;
        below(place, name)->unsupported("this keyword is not supported");
      }
      if (kind == SchemaKeyword::kAnnotation || name == beside || allowed(kind, name)) continue;
      below(place, name)->unsupported(fmt::format("not supported beside \"{}\"", beside));
    }
  }

  void build(const Schema& schema, const SchemaPlace* place, StateId entry) {
    if (schema.is_boolean()) {
      if (schema.get<bool>()) builder_.empty(entry, rules_.any_value());
      return;
    }
    if (!schema.is_object()) place->invalid("expected an object, true or false");
    if (const auto reference = schema.find("$ref"); reference != schema.end()) {
      check_keywords(schema, place, "$ref", [](auto...) { return false; });
      return refer(*reference, below(place, "$ref"), entry);
    }
    for (const char* name : {"anyOf", "oneOf", "allOf"}) {
      const auto choice = schema.find(name);
      if (choice == schema.end()) continue;
      check_keywords(schema, place, name, [](auto...) { return false; });
      return choose(*choice, below(place, name), entry, name == std::string_view("allOf"));
    }
    const std::set<std::string_view> types = read_types(schema, place);
    for (const char* name : {"enum", "const"}) {
      const auto values = schema.find(name);
      if (values == schema.end()) continue;
      check_keywords(schema, place, name,
                     [](SchemaKeyword kind, auto) { return kind == SchemaKeyword::kType; });
      return list_values(*values, below(place, name), entry, types,
                         name == std::string_view("enum"));
    }
    check_keywords(schema, place, "", [](auto...) { return true; });
    for (const std::string_view type : types) build_type(type, schema, place, entry);
  }

  // The types that a schema allows: as it says, or as its keywords tell.
  std::set<std::string_view> read_types(const Schema& schema, const SchemaPlace* place) {
    std::set<std::string_view> types;
    const auto add = [&](const Schema& name, const SchemaPlace* at) {
      if (!name.is_string()) at->invalid("expected the name of a type");
      for (const std::string_view type : kTypes) {
        if (name.get_ref<const std::string&>() == type) {
          types.insert(type);
          return;
        }
      }
      at->invalid(fmt::format("\"{}\" is no type", printable(name.get<std::string>(), 60)));
    };
    if (const auto said = schema.find("type"); said != schema.end()) {
      const SchemaPlace* at = below(place, "type");
      if (!said->is_array()) {
        add(*said, at);
        return types;
      }
      for (const Schema& each : *said) add(each, at);
      if (types.empty()) at->invalid("expected at least one type");
      return types;
    }
    for (const auto& [name, value] : schema.items()) {
      const SchemaKeyword kind = schema_keyword(name);
      if (kind == SchemaKeyword::kObject) types.insert("object");
      if (kind == SchemaKeyword::kArray) types.insert("array");
      if (kind == SchemaKeyword::kString) types.insert("string");
      if (kind == SchemaKeyword::kNumber) types.insert("number");
    }
    if (types.empty()) types.insert(std::begin(kTypes), std::end(kTypes));
    return types;
  }

  void build_type(std::string_view type, const Schema& schema, const SchemaPlace* place,
                  StateId entry) {
    if (type == "object") return build_object(schema, place, entry);
    if (type == "array") return build_array(schema, place, entry);
    if (type == "string") {
      builder_.empty(entry, rules_.string(read_bounds(schema, place, "minLength", "maxLength")));
    } else if (type == "number" || type == "integer") {
      build_number(type == "integer", schema, place, entry);
    } else if (type == "boolean") {
      builder_.literal(entry, "true", Pushdown::kReturn);
      builder_.literal(entry, "false", Pushdown::kReturn);
    } else {
      builder_.literal(entry, "null", Pushdown::kReturn);
    }
  }

  void build_number(bool whole, const Schema& schema, const SchemaPlace* place, StateId entry) {
    NumberRange range{read_bound(schema, place, "minimum", "exclusiveMinimum", 1),
                      read_bound(schema, place, "maximum", "exclusiveMaximum", -1), whole};
    if (!range.least && !range.most) {
      return builder_.empty(entry, whole ? rules_.integer() : rules_.number());
    }
    add_number_range(builder_, entry, range);
  }

  // The tighter of the two; `inwards` is 1 for lower bounds, -1 for upper ones.
  std::optional<NumberBound> read_bound(const Schema& schema, const SchemaPlace* place,
                                        const char* inclusive, const char* exclusive, int inwards) {
    std::optional<NumberBound> bound;
    for (const char* name : {inclusive, exclusive}) {
      const auto said = schema.find(name);
      if (said == schema.end()) continue;
      if (!said->is_number()) below(place, name)->invalid("expected a number");
      const auto value = said->get<double>();
      if (value != std::floor(value) ||
          std::abs(value) >= static_cast<double>(NumberRange::kMostMagnitude)) {
        below(place, name)->unsupported("only whole bounds of up to 15 digits are supported");
      }
      const NumberBound next{static_cast<std::int64_t>(value), name == exclusive};
      const std::int64_t further = bound ? (next.value - bound->value) * inwards : 1;
      if (further > 0 || (further == 0 && next.exclusive)) bound = next;
    }
    return bound;
  }

  LengthBounds read_bounds(const Schema& schema, const SchemaPlace* place, const char* least,
                           const char* most) {
    const auto read = [&](const char* name, std::uint32_t otherwise) {
      const auto found = schema.find(name);
      if (found == schema.end()) return otherwise;
      const bool is_count = found->is_number_unsigned() ||
                            (found->is_number_integer() && found->get<std::int64_t>() >= 0);
      if (!is_count) below(place, name)->invalid("expected a whole number, at least 0");
      if (found->get<std::uint64_t>() >= kUnbounded) below(place, name)->invalid("too large");
      return found->get<std::uint32_t>();
    };
    const LengthBounds bounds{read(least, 0), read(most, kUnbounded)};
    if (bounds.least > bounds.most) {
      below(place, least)->invalid(fmt::format("is above {}", most));
    }
    return bounds;
  }

  void choose(const Schema& choices, const SchemaPlace* place, StateId entry, bool all) {
    if (!choices.is_array() || choices.empty()) place->invalid("expected a list of schemas");
    if (all && choices.size() > 1) place->unsupported("more than one schema is not supported");
    if (choices.size() > kMostChoices) {
      place->unsupported(fmt::format("more than {} schemas are not supported", kMostChoices));
    }
    for (std::size_t i = 0; i < choices.size(); ++i) {
      builder_.empty(entry, rule(choices[i], below(place, i)));
    }
  }

  void refer(const Schema& reference, const SchemaPlace* place, StateId entry) {
    if (!reference.is_string()) place->invalid("expected a text");
    const auto& text = reference.get_ref<const std::string&>();
    if (!text.starts_with('#') || (text.size() > 1 && text[1] != '/')) {
      place->unsupported(
          fmt::format("\"{}\" is not a path in this schema (\"#/...\")", printable(text, 100)));
    }
    const auto target = references_.find(text);
    if (!target) place->invalid(fmt::format("\"{}\" is not in the schema", printable(text, 100)));
    const SchemaPlace* at = &places_.front();
    for (const std::string& key : target->keys) at = below(at, texts_.emplace_back(key));
    builder_.empty(entry, rule(*target->schema, at));
  }

  void list_values(const Schema& said, const SchemaPlace* place, StateId entry,
                   const std::set<std::string_view>& types, bool is_list) {
    if (is_list && (!said.is_array() || said.empty())) place->invalid("expected a list of values");
    std::unordered_map<std::uint64_t, StateId> tree;  // of the texts, by state and byte
    std::set<StateId> ends;
    bool any = false;
    const auto add = [&](const Schema& value) {
      const std::string_view type = type_of(value);
      if (!types.contains(type) && !(type == "integer" && types.contains("number"))) return;
      any = true;
      if (value.is_structured()) {
        spell(value, place, entry, Pushdown::kReturn, 0);
        return;
      }
      StateId at = entry;
      for (const char byte : spelt(value)) {
        const std::uint64_t key = std::uint64_t{at} << 8 | static_cast<std::uint8_t>(byte);
        const auto [next, is_new] = tree.try_emplace(key, 0);
        if (is_new) {
          next->second = builder_.state();
          builder_.byte(at, byte, next->second);
          if (builder_.full()) place->invalid("the schema is too large");
        }
        at = next->second;
      }
      if (ends.insert(at).second) builder_.empty(at, Pushdown::kReturn);
    };
    if (!is_list) {
      add(said);
    } else {
      for (const Schema& value : said) add(value);
    }
    if (!any) place->invalid("no value is of the schema's type");
  }

  // One value, with white space where it may be.
  void spell(const Schema& value, const SchemaPlace* place, StateId from, StateId to, int depth) {
    if (depth > kMostValueDepth) place->invalid("a value is nested too deep");
    if (builder_.full()) place->invalid("the schema is too large");
    if (!value.is_structured()) return builder_.literal(from, spelt(value), to);
    const StateId begin = builder_.state();
    builder_.byte(from, value.is_object() ? '{' : '[', begin);
    StateId at = builder_.state();
    rules_.white_space(begin, at);
    bool first = true;
    for (const auto& [name, element] : value.items()) {
      if (!first) {
        const StateId next = builder_.state();
        rules_.punctuation(at, ',', next);
        at = next;
      }
      if (value.is_object()) {
        const StateId named = builder_.state();
        const StateId before_value = builder_.state();
        builder_.literal(at, spelt(Schema(name)), named);
        rules_.punctuation(named, ':', before_value);
        at = before_value;
      }
      const StateId end = builder_.state();
      spell(element, place, at, end, depth + 1);
      at = end;
      first = false;
    }
    StateId close = at;
    if (!first) {
      close = builder_.state();
      rules_.white_space(at, close);
    }
    builder_.byte(close, value.is_object() ? '}' : ']', to);
  }

  void build_array(const Schema& schema, const SchemaPlace* place, StateId entry) {
    const LengthBounds bounds = read_bounds(schema, place, "minItems", "maxItems");
    std::vector<StateId> prefix;
    if (const auto said = schema.find("prefixItems"); said != schema.end()) {
      const SchemaPlace* at = below(place, "prefixItems");
      if (!said->is_array() || said->empty()) at->invalid("expected a list of schemas");
      for (std::size_t i = 0; i < said->size(); ++i) {
        prefix.push_back(rule((*said)[i], below(at, i)));
      }
    }
    std::optional<StateId> rest;
    if (const auto said = schema.find("items"); said != schema.end()) {
      if (said->is_array())
        below(place, "items")->unsupported("a list is not supported (prefixItems is)");
      rest = rule(*said, below(place, "items"));
    } else if (prefix.empty() || bounds.least > prefix.size()) {
      rest = rules_.any_value();
    }
    const StateId begin = builder_.state();
    builder_.byte(entry, '[', begin);
    if (prefix.empty()) return rules_.items(begin, *rest, bounds, Pushdown::kReturn);

    StateId at = builder_.state();
    rules_.white_space(begin, at);
    if (bounds.least == 0) builder_.byte(at, ']', Pushdown::kReturn);
    const StateId close = builder_.state();
    const StateId bracket = builder_.state();
    rules_.white_space(close, bracket);
    builder_.byte(bracket, ']', Pushdown::kReturn);
    for (std::size_t i = 0; i < prefix.size() && i < bounds.most; ++i) {
      if (i > 0) {
        const StateId next = builder_.state();
        rules_.punctuation(at, ',', next);
        at = next;
      }
      const StateId end = builder_.state();
      builder_.call(at, prefix[i], end);
      if (i + 1 >= bounds.least) builder_.empty(end, close);
      at = end;
    }
    if (!rest || bounds.most <= prefix.size()) return;
    // The rest counts from 0 again.
    const auto n_prefix = static_cast<std::uint32_t>(prefix.size());
    const StateId next = builder_.state();
    rules_.punctuation(at, ',', next);
    LengthBounds left;
    left.least = std::max(bounds.least, n_prefix + 1) - n_prefix;
    if (bounds.most != kUnbounded) left.most = bounds.most - n_prefix;
    rules_.items(next, *rest, left, Pushdown::kReturn);
  }

  std::vector<Member> read_members(const Schema& schema, const SchemaPlace* place) {
    std::vector<std::string> required;
    std::set<std::string> missing;
    if (const auto said = schema.find("required"); said != schema.end()) {
      const SchemaPlace* at = below(place, "required");
      if (!said->is_array()) at->invalid("expected a list of names");
      for (const Schema& name : *said) {
        if (!name.is_string()) at->invalid("expected a list of names");
        if (missing.insert(name.get<std::string>()).second) required.push_back(name);
      }
    }
    std::vector<Member> members;
    if (const auto said = schema.find("properties"); said != schema.end()) {
      const SchemaPlace* at = below(place, "properties");
      if (!said->is_object()) at->invalid("expected an object of schemas");
      for (const auto& [name, value] : said->items()) {
        members.push_back({name, rule(value, below(at, name)), missing.erase(name) > 0});
      }
    }
    for (const std::string& name : required) {
      if (!missing.contains(name)) continue;
      members.push_back({name, additional_value(schema, place, true).value_or(0), true});
      if (members.back().value == 0) {
        below(place, "required")
            ->invalid(fmt::format("\"{}\" is not in properties, and no others are allowed",
                                  printable(name, 60)));
      }
    }
    return members;
  }

  // The rule of the members that `properties` does not name; nothing where there are none.
  std::optional<StateId> additional_value(const Schema& schema, const SchemaPlace* place,
                                          bool is_required) {
    const auto said = schema.find("additionalProperties");
    if (said == schema.end()) {
      if (schema.contains("properties") && !is_required) return std::nullopt;
      return rules_.any_value();
    }
    if (said->is_boolean() && !said->get<bool>()) return std::nullopt;
    return rule(*said, below(place, "additionalProperties"));
  }

  void build_object(const Schema& schema, const SchemaPlace* place, StateId entry) {
    const std::vector<Member> members = read_members(schema, place);
    const std::optional<StateId> additional = additional_value(schema, place, false);
    const std::size_t n = members.size();
    const StateId begin = builder_.state();
    const StateId close = builder_.state();
    const StateId bracket = builder_.state();
    builder_.byte(entry, '{', begin);
    rules_.white_space(close, bracket);
    builder_.byte(bracket, '}', Pushdown::kReturn);
    // Before member i or a later one: as the first of all, or after a comma.
    StateId first = builder_.state();
    StateId next = builder_.state();
    rules_.white_space(begin, first);
    std::size_t last_required = 0;  // one more than its index
    for (std::size_t i = 0; i < n; ++i) {
      if (members[i].required) last_required = i + 1;
    }
    std::size_t n_optional = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const Member& member = members[i];
      n_optional = member.required ? 0 : n_optional + 1;
      if (n_optional > kMostOptional) {
        below(place, "properties")
            ->unsupported(fmt::format("more than {} optional members in a row", kMostOptional));
      }
      const StateId name = builder_.state();
      const StateId named = builder_.state();
      const StateId before_value = builder_.state();
      const StateId after = builder_.state();
      builder_.empty(first, name);
      builder_.empty(next, name);
      builder_.literal(name, spelt(Schema(member.name)), named);
      rules_.punctuation(named, ':', before_value);
      builder_.call(before_value, member.value, after);
      const StateId first_later = builder_.state();
      const StateId next_later = builder_.state();
      if (!member.required) {
        builder_.empty(first, first_later);
        builder_.empty(next, next_later);
      }
      if (last_required <= i + 1) builder_.empty(after, close);
      if (i + 1 < n || additional) rules_.punctuation(after, ',', next_later);
      first = first_later;
      next = next_later;
    }
    builder_.byte(first, '}', Pushdown::kReturn);
    if (!additional) return;
    std::vector<std::string> names;
    names.reserve(n);
    for (const Member& member : members) names.push_back(member.name);
    const StateId others = builder_.state();
    builder_.empty(first, others);
    builder_.empty(next, others);
    rules_.members(others, rules_.name_except(names), *additional, Pushdown::kReturn);
  }

  const Schema& root_;
  PushdownBuilder& builder_;
  JsonRules& rules_;
  std::deque<SchemaPlace> places_;
  std::deque<std::string> texts_;  // keys of places that no schema holds
  std::unordered_map<const Schema*, StateId> rules_of_;
  std::vector<Task> tasks_;
  SchemaReferences references_;
};

}  // namespace

StateId compile_json_schema(const nlohmann::ordered_json& schema, PushdownBuilder& builder,
                            JsonRules& rules) {
  return SchemaCompiler(schema, builder, rules).compile();
}

}  // namespace moeopt
