#include "text/json_field.h"

#include "text/utf8.h"

namespace moeopt {

JsonField JsonField::at(const std::string& key) const {
  if (!value_->is_object()) invalid("expected an object");
  const auto found = value_->find(key);
  if (found == value_->end()) invalid(fmt::format("field \"{}\" is missing", key));
  return {*found, name_of(key)};
}

std::optional<JsonField> JsonField::find(const std::string& key) const {
  if (!value_->is_object()) invalid("expected an object");
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return JsonField(*found, name_of(key));
}

JsonField JsonField::element(std::size_t index) const {
  return {(*value_)[index], fmt::format("{}[{}]", name_, index)};
}

std::size_t JsonField::array_size() const {
  if (!value_->is_array()) invalid("expected an array");
  return value_->size();
}

const std::string& JsonField::string() const {
  if (!value_->is_string()) invalid("expected a string");
  return value_->get_ref<const std::string&>();
}

bool JsonField::boolean() const {
  if (!value_->is_boolean()) invalid("expected true or false");
  return value_->get<bool>();
}

std::int64_t JsonField::integer(std::int64_t low, std::int64_t high) const {
  if (!value_->is_number_integer()) invalid("expected an integer");
  const bool too_large =
      value_->is_number_unsigned() && value_->get<std::uint64_t>() > std::uint64_t{INT64_MAX};
  const std::int64_t number = too_large ? INT64_MAX : value_->get<std::int64_t>();
  if (too_large || number < low || number > high) {
    invalid(fmt::format("{} is not between {} and {}", value_->dump(), low, high));
  }
  return number;
}

char32_t JsonField::character() const {
  const std::string& text = string();
  if (text.empty()) invalid("expected one character");
  const DecodedCharacter character = decode_utf8(text, 0);
  if (!character.valid || character.size_bytes != text.size()) invalid("expected one character");
  return character.code_point;
}

bool JsonField::flag(const std::string& key, bool fallback) const {
  const auto field = find(key);
  return field ? field->boolean() : fallback;
}

std::string JsonField::name_of(const std::string& key) const {
  return name_ + (name_.ends_with(": ") ? "" : ".") + key;
}

std::string_view JsonField::shown_name() const {
  const std::string_view name = name_;
  return name.ends_with(": ") ? name.substr(0, name.size() - 2) : name;
}

void JsonField::invalid(std::string_view why) const {
  throw_error(ErrorCode::kInvalidData, "{}: {}", shown_name(), why);
}

void JsonField::unsupported(std::string_view what) const {
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: {} is not supported", shown_name(), what));
}

}  // namespace moeopt
