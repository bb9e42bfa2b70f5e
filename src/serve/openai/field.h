// Fields of a request's body as tables: one row checks and stores a field, and is its entry in the
// OpenAPI document. Invariant: what a row's schema says is what its reader accepts.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "serve/api_error.h"

namespace moeopt::serve {

inline constexpr std::size_t kMostText = std::size_t{64} << 20;  // the body's own limit is lower

// Each throws ApiError(400) naming `path` unless the value is of the kind and in the range.
bool read_bool(const OrderedJson& value, std::string_view path);
std::int64_t read_integer(const OrderedJson& value, std::string_view path, std::int64_t minimum,
                          std::int64_t maximum);
double read_number(const OrderedJson& value, std::string_view path, double minimum, double maximum);
const std::string& read_string(const OrderedJson& value, std::string_view path,
                               std::size_t most_bytes);
const OrderedJson& read_array(const OrderedJson& value, std::string_view path, std::size_t at_most);
const OrderedJson& read_object(const OrderedJson& value, std::string_view path);

template <typename T>
struct Field {
  std::string name;
  OrderedJson schema;  // JSON schema with a description
  std::function<void(const OrderedJson& value, std::string_view path, T& into)> read;
  bool required = false;
};

template <typename T>
using Fields = std::vector<Field<T>>;

// What `schema` allows, or null.
OrderedJson or_null(OrderedJson schema);

OrderedJson token_id_schema();

// A JSON schema with a description.
OrderedJson schema_of(OrderedJson schema, std::string_view description);

template <typename T, typename Member>
Field<T> bool_field(std::string name, Member member, std::string_view description) {
  return {std::move(name), schema_of({{"type", "boolean"}}, description),
          [member](const OrderedJson& value, std::string_view path, T& into) {
            into.*member = read_bool(value, path);
          }};
}

template <typename T, typename Member>
Field<T> integer_field(std::string name, std::int64_t minimum, std::int64_t maximum, Member member,
                       std::string_view description) {
  return {std::move(name),
          schema_of({{"type", "integer"}, {"minimum", minimum}, {"maximum", maximum}}, description),
          [minimum, maximum, member](const OrderedJson& value, std::string_view path, T& into) {
            into.*member = read_integer(value, path, minimum, maximum);
          }};
}

template <typename T, typename Member>
Field<T> number_field(std::string name, double minimum, double maximum, Member member,
                      std::string_view description) {
  return {std::move(name),
          schema_of({{"type", "number"}, {"minimum", minimum}, {"maximum", maximum}}, description),
          [minimum, maximum, member](const OrderedJson& value, std::string_view path, T& into) {
            into.*member = static_cast<float>(read_number(value, path, minimum, maximum));
          }};
}

template <typename T, typename Member>
Field<T> string_field(std::string name, std::size_t most_bytes, Member member,
                      std::string_view description) {
  return {std::move(name), schema_of({{"type", "string"}, {"maxLength", most_bytes}}, description),
          [most_bytes, member](const OrderedJson& value, std::string_view path, T& into) {
            into.*member = read_string(value, path, most_bytes);
          }};
}

// The body of a request as JSON; ApiError(400) for what is none, or not an object.
OrderedJson parse_body(std::string_view body);

// Reads the members of `body` that `fields` name. null is the same as absent; unknown members are
// ignored, as OpenAI does. ApiError(400) names the field.
template <typename T>
void read_fields(const OrderedJson& body, const Fields<T>& fields, T& into) {
  std::map<std::string_view, const Field<T>*> by_name;
  for (const Field<T>& field : fields) by_name[field.name] = &field;
  for (const auto& [name, value] : body.items()) {
    const auto found = by_name.find(name);
    if (found == by_name.end() || value.is_null()) continue;
    found->second->read(value, name, into);
    by_name.erase(found);
  }
  for (const auto& [name, field] : by_name) {
    if (field->required) {
      throw ApiError(400, fmt::format("{}: is missing", name), std::string(name),
                     "missing_required_parameter");
    }
  }
}

// {"type": "object", "properties": ..., "required": ...} of a table.
template <typename T>
OrderedJson object_schema(const Fields<T>& fields) {
  OrderedJson properties = OrderedJson::object();
  OrderedJson required = OrderedJson::array();
  for (const Field<T>& field : fields) {
    properties[field.name] = field.required ? field.schema : or_null(field.schema);
    if (field.required) required.push_back(field.name);
  }
  OrderedJson schema = {{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

}  // namespace moeopt::serve
