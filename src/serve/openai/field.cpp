#include "serve/openai/field.h"

#include <cmath>

#include "base/strings.h"

namespace moeopt::serve {
namespace {

constexpr JsonLimits kBodyLimits = {
    .bytes = std::size_t{64} << 20, .depth = 64, .nodes = 2'000'000};

std::string_view kind_of(const OrderedJson& value) {
  return value.type_name();
}

}  // namespace

bool read_bool(const OrderedJson& value, std::string_view path) {
  if (!value.is_boolean()) refuse_field(path, "expected true or false, not {}", kind_of(value));
  return value.get<bool>();
}

std::int64_t read_integer(const OrderedJson& value, std::string_view path, std::int64_t minimum,
                          std::int64_t maximum) {
  const auto out_of_range = [&] {
    refuse_field(path, "must be from {} to {}, not {}", minimum, maximum,
                 printable(value.dump(), 40));
  };
  if (value.is_number_float()) {  // 2.0 is a whole number too
    const double number = value.get<double>();
    if (number != std::floor(number)) refuse_field(path, "expected a whole number");
    if (!(number >= static_cast<double>(minimum) && number <= static_cast<double>(maximum)) ||
        std::abs(number) > 9e15) {
      out_of_range();
    }
    return static_cast<std::int64_t>(number);
  }
  if (!value.is_number_integer()) {
    refuse_field(path, "expected a whole number, not {}", kind_of(value));
  }
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{INT64_MAX}) {
    out_of_range();
  }
  const auto number = value.get<std::int64_t>();
  if (number < minimum || number > maximum) out_of_range();
  return number;
}

double read_number(const OrderedJson& value, std::string_view path, double minimum,
                   double maximum) {
  if (!value.is_number()) refuse_field(path, "expected a number, not {}", kind_of(value));
  const double number = value.get<double>();
  if (!(number >= minimum && number <= maximum)) {
    refuse_field(path, "must be from {} to {}, not {}", minimum, maximum,
                 printable(value.dump(), 40));
  }
  return number;
}

const std::string& read_string(const OrderedJson& value, std::string_view path,
                               std::size_t most_bytes) {
  if (!value.is_string()) refuse_field(path, "expected a string, not {}", kind_of(value));
  const auto& text = value.get_ref<const std::string&>();
  if (text.size() > most_bytes) {
    refuse_field(path, "{} bytes long, at most {} may be", text.size(), most_bytes);
  }
  return text;
}

const OrderedJson& read_array(const OrderedJson& value, std::string_view path,
                              std::size_t at_most) {
  if (!value.is_array()) refuse_field(path, "expected a list, not {}", kind_of(value));
  if (value.size() > at_most) {
    refuse_field(path, "has {} entries, at most {} may be", value.size(), at_most);
  }
  return value;
}

const OrderedJson& read_object(const OrderedJson& value, std::string_view path) {
  if (!value.is_object()) refuse_field(path, "expected an object, not {}", kind_of(value));
  return value;
}

OrderedJson or_null(OrderedJson schema) {
  if (const auto type = schema.find("type"); type != schema.end()) {
    *type = OrderedJson::array({*type, "null"});
    if (schema.contains("enum")) schema["enum"].push_back(nullptr);
  } else {
    schema["oneOf"].push_back({{"type", "null"}});
  }
  return schema;
}

OrderedJson token_id_schema() {
  return {{"type", "integer"}, {"minimum", 0}, {"maximum", INT32_MAX}};
}

OrderedJson schema_of(OrderedJson schema, std::string_view description) {
  schema["description"] = description;
  return schema;
}

OrderedJson parse_body(std::string_view body) {
  OrderedJson json;
  try {
    json = parse_ordered_json(body, "the body", kBodyLimits);
  } catch (const Error& error) {
    throw ApiError(400, error.what(), {}, "invalid_json");
  }
  if (!json.is_object()) throw ApiError(400, "the body is not a JSON object", {}, "invalid_json");
  return json;
}

}  // namespace moeopt::serve
