#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/grammar_util.h"
#include "text/utf8.h"

namespace moeopt::testing {
namespace {

int below(Random& random, int n) {
  return static_cast<int>(random() % static_cast<unsigned>(n));
}
bool once_in(Random& random, int n) {
  return below(random, n) == 0;
}

std::size_t n_characters(const std::string& text) {
  std::size_t n = 0;
  for (std::size_t at = 0; at < text.size(); at += decode_utf8(text, at).size_bytes) ++n;
  return n;
}

bool has_type(const Schema& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "number") return value.is_number();
  return value.is_number() && value.get<double>() == std::floor(value.get<double>());
}

const Schema& target(const std::string& reference, const Schema& root) {
  if (reference == "#/$defs/a~1b%20c") return root["$defs"]["a/b c"];
  return reference == "#" ? root : root.at(Schema::json_pointer(reference.substr(1)));
}

}  // namespace

bool is_valid(const Schema& value, const Schema& schema, const Schema& root) {
  if (schema.is_boolean()) return schema.get<bool>();
  for (const auto& [name, said] : schema.items()) {
    const auto fits_one = [&](const Schema& each) { return is_valid(value, each, root); };
    if (name == "$ref" && !is_valid(value, target(said.get<std::string>(), root), root))
      return false;
    if ((name == "anyOf" || name == "oneOf") && std::none_of(said.begin(), said.end(), fits_one)) {
      return false;
    }
    if (name == "allOf" && !std::all_of(said.begin(), said.end(), fits_one)) return false;
    if (name == "enum" && std::find(said.begin(), said.end(), value) == said.end()) return false;
    if (name == "const" && said != value) return false;
    if (name == "type") {
      const Schema types = said.is_array() ? said : Schema::array({said});
      if (std::none_of(types.begin(), types.end(), [&](const Schema& type) {
            return has_type(value, type.get<std::string>());
          })) {
        return false;
      }
    }
    if (value.is_string()) {
      const std::size_t n = n_characters(value.get<std::string>());
      if (name == "minLength" && n < said.get<std::size_t>()) return false;
      if (name == "maxLength" && n > said.get<std::size_t>()) return false;
    }
    if (value.is_array()) {
      if (name == "minItems" && value.size() < said.get<std::size_t>()) return false;
      if (name == "maxItems" && value.size() > said.get<std::size_t>()) return false;
      const Schema prefix = schema.value("prefixItems", Schema::array());
      if (name == "prefixItems") {
        for (std::size_t i = 0; i < std::min(value.size(), said.size()); ++i) {
          if (!is_valid(value[i], said[i], root)) return false;
        }
      }
      if (name == "items") {
        for (std::size_t i = prefix.size(); i < value.size(); ++i) {
          if (!is_valid(value[i], said, root)) return false;
        }
      }
    }
    if (value.is_object()) {
      const Schema properties = schema.value("properties", Schema::object());
      if (name == "required") {
        for (const Schema& each : said) {
          if (!value.contains(each.get<std::string>())) return false;
        }
      }
      if (name == "properties") {
        for (const auto& [key, each] : said.items()) {
          if (value.contains(key) && !is_valid(value[key], each, root)) return false;
        }
      }
      if (name == "additionalProperties") {
        for (const auto& [key, each] : value.items()) {
          if (!properties.contains(key) && !is_valid(each, said, root)) return false;
        }
      }
    }
  }
  return true;
}

namespace {

const char* const kNames[] = {"a",
                              "b",
                              "name",
                              "nam",
                              "names",
                              "\xC3\xA9t\xC3\xA9",
                              "x\"y",
                              "",
                              "na me",
                              "\xE4\xBD\xA0",
                              "\xE4\xBD\xA1",
                              "line\nend",
                              "back\\",
                              "\xF0\x9F\x98\x80"};

std::string random_string(Random& random, int n) {
  static const char* const kParts[] = {
      "a",   "e", " ",  "\"",   "\\", "\n", "\xC3\xA9", "\xE4\xBD\xA0", "\xF0\x9F\x98\x80",
      "the", "/", "\t", "\x7F", "0",  "{",  "\x01"};
  std::string text;
  for (int i = 0; i < n; ++i) {
    const std::string part = kParts[random() % std::size(kParts)];
    text += part == "the" ? "t" : part;
  }
  return text;
}

Schema any_value(Random& random, int depth) {
  switch (below(random, depth > 2 ? 5 : 7)) {
    case 0:
      return nullptr;
    case 1:
      return once_in(random, 2);
    case 2:
      return below(random, 2000) - 1000;
    case 3:
      return (below(random, 2'000'000) - 1'000'000) / 1024.0 * (once_in(random, 2) ? 1e-12 : 1e20);
    case 4:
      return random_string(random, below(random, 6));
    case 5: {
      Schema array = Schema::array();
      for (int i = below(random, 4); i > 0; --i) array.push_back(any_value(random, depth + 1));
      return array;
    }
    default: {
      Schema object = Schema::object();
      for (int i = below(random, 4); i > 0; --i) {
        object[kNames[random() % std::size(kNames)]] = any_value(random, depth + 1);
      }
      return object;
    }
  }
}

Schema random_part(Random& random, int depth) {
  const auto part = [&] { return random_part(random, depth + 1); };
  switch (below(random, depth > 2 ? 9 : 13)) {
    case 0:
      return Schema::object();
    case 1:
      return {{"type", "integer"}, {"title", "n"}};
    case 2:
      return {{"type", once_in(random, 2) ? "number" : "boolean"}};
    case 3:
      return {{"type", Schema::array({"string", "null"})}};
    case 4: {
      Schema out = {{"type", "string"}};
      if (once_in(random, 2)) out["minLength"] = below(random, 4);
      if (once_in(random, 2)) out["maxLength"] = 3 + below(random, 4);
      return out;
    }
    case 5: {
      Schema out = {{"enum", Schema::array({"red", "green", "re", 1, 12, nullptr})}};
      for (int i = below(random, 3); i > 0; --i) out["enum"].push_back(any_value(random, 1));
      return out;
    }
    case 6:
      return {{"const", any_value(random, 1)}};
    case 7:
      return {{"$ref", once_in(random, 2) ? "#/$defs/tree" : "#/$defs/a~1b%20c"}};
    case 8:
      return {{"type", "object"}};
    case 9: {
      Schema out = {{once_in(random, 2) ? "anyOf" : "oneOf", Schema::array({part(), part()})}};
      return out;
    }
    case 10: {
      Schema out = {{"type", "array"}};
      if (once_in(random, 2)) out["prefixItems"] = Schema::array({part(), part()});
      if (once_in(random, 2) || !out.contains("prefixItems")) out["items"] = part();
      if (once_in(random, 2)) out["minItems"] = below(random, 4);
      if (once_in(random, 2)) out["maxItems"] = 3 + below(random, 3);
      return out;
    }
    default: {
      Schema out = {{"type", "object"}};
      Schema required = Schema::array();
      if (!once_in(random, 6)) out["properties"] = Schema::object();
      for (int i = below(random, 5); i > 0 && out.contains("properties"); --i) {
        const char* name = kNames[random() % std::size(kNames)];
        if (out["properties"].contains(name)) continue;
        out["properties"][name] = part();
        if (once_in(random, 2)) required.push_back(name);
      }
      if (once_in(random, 3)) {
        out["additionalProperties"] = part();
        if (once_in(random, 2)) required.push_back("more");
      } else if (once_in(random, 2)) {
        out["additionalProperties"] = once_in(random, 2);
      }
      out["required"] = required;
      return out;
    }
  }
}

}  // namespace

Schema random_schema(Random& random) {
  Schema root = random_part(random, 0);
  root["$defs"] = {{"tree",
                    {{"type", "object"},
                     {"properties",
                      {{"value", {{"type", "integer"}}},
                       {"next", {{"anyOf", {{{"$ref", "#/$defs/tree"}}, {{"type", "null"}}}}}}}},
                     {"required", {"value"}},
                     {"additionalProperties", false}}},
                   {"a/b c", {{"type", "array"}, {"items", {{"$ref", "#/$defs/tree"}}}}}};
  return root;
}

Schema random_value(const Schema& schema, const Schema& root, Random& random, int depth) {
  const auto sub = [&](const Schema& each) { return random_value(each, root, random, depth + 1); };
  if (schema.is_boolean()) return any_value(random, 1);
  if (schema.contains("$ref")) return sub(target(schema["$ref"].get<std::string>(), root));
  for (const char* name : {"anyOf", "oneOf", "enum"}) {
    if (!schema.contains(name)) continue;
    const Schema& list = schema[name];
    // Deep down the last choice, which ends recursions.
    const Schema& one = depth > 8 ? list.back() : list[random() % list.size()];
    return name == std::string("enum") ? one : sub(one);
  }
  if (schema.contains("const")) return schema["const"];
  if (!schema.contains("type")) return any_value(random, 1);
  const Schema& types = schema["type"];
  const std::string type = types.is_array() ? types[random() % types.size()] : types;
  if (type == "null") return nullptr;
  if (type == "boolean") return once_in(random, 2);
  if (type == "integer") return below(random, 100'000) - 50'000;
  if (type == "number") return (below(random, 100'000) - 50'000) / 64.0;
  if (type == "string") {
    const int least = schema.value("minLength", 0);
    return random_string(random,
                         least + below(random, schema.value("maxLength", least + 5) - least + 1));
  }
  if (type == "array") {
    const Schema prefix = schema.value("prefixItems", Schema::array());
    const int least = schema.value("minItems", 0);
    int n = least + below(random, schema.value("maxItems", least + 3) - least + 1);
    if (!prefix.empty() && !schema.contains("items") && least <= static_cast<int>(prefix.size())) {
      n = std::min(n, static_cast<int>(prefix.size()));
    }
    Schema out = Schema::array();
    for (int i = 0; i < n; ++i) {
      const auto at = static_cast<std::size_t>(i);
      out.push_back(sub(at < prefix.size() ? prefix[at] : schema.value("items", Schema(true))));
    }
    return out;
  }
  Schema out = Schema::object();
  const Schema properties = schema.value("properties", Schema::object());
  const Schema required = schema.value("required", Schema::array());
  const auto is_required = [&](const std::string& name) {
    return std::find(required.begin(), required.end(), Schema(name)) != required.end();
  };
  for (const auto& [name, each] : properties.items()) {
    if (is_required(name) || (once_in(random, 2) && depth < 6)) out[name] = sub(each);
  }
  const Schema additional =
      schema.value("additionalProperties", Schema(!schema.contains("properties")));
  for (const Schema& name : required) {
    if (!properties.contains(name.get<std::string>()))
      out[name.get<std::string>()] = sub(additional);
  }
  if (additional == Schema(false) || depth > 4) return out;
  for (int i = below(random, 3); i > 0; --i) {
    const char* name = kNames[random() % std::size(kNames)];
    if (!properties.contains(name)) out[name] = sub(additional);
  }
  return out;
}

namespace {

std::string spelt_string(const std::string& text, Random& random, bool plain) {
  std::string out = "\"";
  for (std::size_t at = 0; at < text.size();) {
    const DecodedCharacter character = decode_utf8(text, at);
    const std::string raw = text.substr(at, character.size_bytes);
    at += character.size_bytes;
    const char32_t code = character.code_point;
    const std::size_t short_escape =
        std::string_view("\"\\/\b\f\n\r\t").find(static_cast<char>(code));
    const bool must_escape = code < 0x20 || code == '"' || code == '\\';
    if (code < 0x80 && short_escape != std::string_view::npos && (must_escape || !plain) &&
        (plain || once_in(random, 2))) {
      out += std::string("\\") + "\"\\/bfnrt"[short_escape];
    } else if (must_escape || (!plain && once_in(random, 4))) {
      const auto unit = [&](unsigned value) {
        out += fmt::format(fmt::runtime(once_in(random, 2) ? "\\u{:04x}" : "\\u{:04X}"), value);
      };
      if (code >= 0x10000) {
        unit(0xD800 + ((static_cast<unsigned>(code) - 0x10000) >> 10));
        unit(0xDC00 + ((static_cast<unsigned>(code) - 0x10000) & 0x3FF));
      } else {
        unit(static_cast<unsigned>(code));
      }
    } else {
      out += raw;
    }
  }
  return out + '"';
}

std::string space(Random& random) {
  static const char* const kSpaces[] = {"", "", "", " ", "\n", "\n    ", "\r\n\t", "  "};
  return kSpaces[random() % std::size(kSpaces)];
}

}  // namespace

std::string random_spelling(const Schema& value, Random& random, bool plain_names) {
  if (value.is_string()) return spelt_string(value.get<std::string>(), random, plain_names);
  if (!value.is_structured()) return value.dump();
  std::string out = value.is_object() ? "{" : "[";
  bool first = true;
  for (const auto& [name, each] : value.items()) {
    if (!first) out += space(random) + ",";
    out += space(random);
    if (value.is_object())
      out += spelt_string(name, random, true) + space(random) + ":" + space(random);
    out += random_spelling(each, random, plain_names);
    first = false;
  }
  return out + space(random) + (value.is_object() ? "}" : "]");
}

}  // namespace moeopt::testing
