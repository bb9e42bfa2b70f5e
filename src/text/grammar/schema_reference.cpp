#include "text/grammar/schema_reference.h"

#include <algorithm>

#include "text/hexadecimal.h"

namespace moeopt {
namespace {

using Schema = nlohmann::ordered_json;

std::string percent_decoded(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool has_digits = text[i] == '%' && i + 2 < text.size() &&
                            hexadecimal_digit(text[i + 1]) >= 0 &&
                            hexadecimal_digit(text[i + 2]) >= 0;
    if (!has_digits) {
      out += text[i];
      continue;
    }
    out += static_cast<char>(hexadecimal_digit(text[i + 1]) * 16 + hexadecimal_digit(text[i + 2]));
    i += 2;
  }
  return out;
}

std::string key_of(const std::string& token) {
  const std::string text = percent_decoded(token);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : ' ';
    if (text[i] == '~' && (next == '0' || next == '1')) {
      out += next == '0' ? '~' : '/';
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

const Schema* element(const Schema& array, const std::string& key) {
  if (!array.is_array() || key.empty() || key.size() > 9) return nullptr;
  if (key.find_first_not_of("0123456789") != key.npos) return nullptr;
  const std::size_t index = std::stoul(key);
  return index < array.size() ? &array[index] : nullptr;
}

}  // namespace

// NOTE: ordered_json looks its members up one by one, which many references would make quadratic.
const Schema* SchemaReferences::member(const Schema& object, const std::string& name) {
  const auto [members, is_new] = members_.try_emplace(&object);
  if (is_new) {
    for (const auto& [each, value] : object.items()) members->second.emplace(each, &value);
  }
  const auto found = members->second.find(name);
  return found == members->second.end() ? nullptr : found->second;
}

std::optional<SchemaReferences::Target> SchemaReferences::find(const std::string& text) {
  Target target{&root_, {}};
  for (std::size_t begin = 2; text.size() > 1 && begin <= text.size();) {
    const std::size_t end = std::min(text.find('/', begin), text.size());
    const std::string key = key_of(text.substr(begin, end - begin));
    const Schema& at = *target.schema;
    target.schema = at.is_object() ? member(at, key) : element(at, key);
    if (target.schema == nullptr) return std::nullopt;
    target.keys.push_back(key);
    begin = end + 1;
  }
  return target;
}

}  // namespace moeopt
