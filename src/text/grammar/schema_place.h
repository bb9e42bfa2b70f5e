// Where in a schema something stands, for messages; and the keywords that are known.
// Invariant: a place costs the same however deep it is; its text is made for an error alone.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace moeopt {

struct SchemaPlace {
  const SchemaPlace* above = nullptr;
  std::string_view key;

  // "#/properties/age", as a JSON pointer; what is long is cut.
  std::string text() const;
  [[noreturn]] void invalid(std::string_view why) const;
  [[noreturn]] void unsupported(std::string_view why) const;
};

enum class SchemaKeyword : std::uint8_t {
  kAnnotation,  // says nothing about values
  kReference,   // $ref
  kChoice,      // anyOf, oneOf, allOf
  kValues,      // enum, const
  kType,
  kObject,  // keywords of one type
  kArray,
  kString,
  kNumber,
  kUnknown,
};
SchemaKeyword schema_keyword(std::string_view name);

}  // namespace moeopt
