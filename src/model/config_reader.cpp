#include "model/config_reader.h"

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

constexpr std::size_t kTextBytes = 256;

std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60);
}

}  // namespace

ConfigReader::ConfigReader(const Json& object, std::string where, std::string path)
    : object_(&object), where_(std::move(where)), path_(std::move(path)) {
  if (!object.is_object()) {
    std::string_view name = path_;
    if (!name.empty()) name.remove_suffix(1);
    throw_error(ErrorCode::kInvalidData, "{}: {}{}must be a JSON object, is {}", where_, name,
                name.empty() ? "" : ": ", shown(object));
  }
}

const Json* ConfigReader::find(std::string_view field) const {
  const auto found = object_->find(field);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

const Json& ConfigReader::require(std::string_view field) const {
  const Json* value = find(field);
  if (value == nullptr) refuse(field, "is missing");
  return *value;
}

void ConfigReader::refuse(std::string_view field, std::string_view why) const {
  throw_error(ErrorCode::kInvalidData, "{}: {}{}: {}", where_, path_, field, why);
}

std::int64_t ConfigReader::integer_value(const Json& value, std::string_view field,
                                         std::int64_t low, std::int64_t high) const {
  if (!value.is_number_integer()) {
    refuse(field, fmt::format("must be an integer, is {}", shown(value)));
  }
  const bool huge = value.is_number_unsigned() &&
                    value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX);
  if (huge || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high) {
    refuse(field, fmt::format("must be between {} and {}, is {}", low, high, shown(value)));
  }
  return value.get<std::int64_t>();
}

std::int64_t ConfigReader::integer(std::string_view field, std::int64_t low,
                                   std::int64_t high) const {
  return integer_value(require(field), field, low, high);
}

std::int64_t ConfigReader::integer_or(std::string_view field, std::int64_t fallback,
                                      std::int64_t low, std::int64_t high) const {
  const Json* value = find(field);
  return value == nullptr ? fallback : integer_value(*value, field, low, high);
}

int ConfigReader::extent(std::string_view field, std::int64_t high) const {
  return static_cast<int>(integer(field, 1, high));
}

int ConfigReader::extent_or(std::string_view field, std::int64_t fallback,
                            std::int64_t high) const {
  return static_cast<int>(integer_or(field, fallback, 1, high));
}

double ConfigReader::number(std::string_view field, double low, double high) const {
  const Json& value = require(field);
  if (!value.is_number()) refuse(field, fmt::format("must be a number, is {}", shown(value)));
  const double number = value.get<double>();
  if (!(number >= low && number <= high)) {
    refuse(field, fmt::format("must be between {} and {}, is {}", low, high, shown(value)));
  }
  return number;
}

double ConfigReader::number_or(std::string_view field, double fallback, double low,
                               double high) const {
  return has(field) ? number(field, low, high) : fallback;
}

bool ConfigReader::flag_or(std::string_view field, bool fallback) const {
  const Json* value = find(field);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    refuse(field, fmt::format("must be true or false, is {}", shown(*value)));
  }
  return value->get<bool>();
}

std::string ConfigReader::text_value(const Json& value, std::string_view field) const {
  if (!value.is_string()) refuse(field, fmt::format("must be a string, is {}", shown(value)));
  const auto& text = value.get_ref<const std::string&>();
  if (text.size() > kTextBytes) {
    refuse(field, fmt::format("has {} bytes, the limit is {}", text.size(), kTextBytes));
  }
  return text;
}

std::string ConfigReader::text_or(std::string_view field, std::string_view fallback) const {
  const Json* value = find(field);
  return value == nullptr ? std::string(fallback) : text_value(*value, field);
}

std::vector<std::int64_t> ConfigReader::integers(std::string_view field, std::int64_t low,
                                                 std::int64_t high, std::size_t max_items) const {
  std::vector<std::int64_t> out;
  const Json* value = find(field);
  if (value == nullptr) return out;
  if (!value->is_array()) return {integer_value(*value, field, low, high)};
  if (value->size() > max_items) {
    refuse(field, fmt::format("has {} entries, the limit is {}", value->size(), max_items));
  }
  for (const Json& item : *value) out.push_back(integer_value(item, field, low, high));
  return out;
}

std::vector<std::string> ConfigReader::texts(std::string_view field, std::size_t max_items) const {
  std::vector<std::string> out;
  const Json* value = find(field);
  if (value == nullptr) return out;
  if (!value->is_array()) refuse(field, fmt::format("must be a list, is {}", shown(*value)));
  if (value->size() > max_items) {
    refuse(field, fmt::format("has {} entries, the limit is {}", value->size(), max_items));
  }
  for (const Json& item : *value) out.push_back(text_value(item, field));
  return out;
}

std::optional<ConfigReader> ConfigReader::child(std::string_view field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  return ConfigReader(*value, where_, fmt::format("{}{}.", path_, field));
}

}  // namespace moeopt
