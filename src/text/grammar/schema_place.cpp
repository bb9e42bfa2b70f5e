#include "text/grammar/schema_place.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/strings.h"

namespace moeopt {
namespace {

using Entry = std::pair<std::string_view, SchemaKeyword>;
constexpr auto kKeywords = std::to_array<Entry>({
    {"$ref", SchemaKeyword::kReference},
    {"anyOf", SchemaKeyword::kChoice},
    {"oneOf", SchemaKeyword::kChoice},
    {"allOf", SchemaKeyword::kChoice},
    {"enum", SchemaKeyword::kValues},
    {"const", SchemaKeyword::kValues},
    {"type", SchemaKeyword::kType},
    {"properties", SchemaKeyword::kObject},
    {"required", SchemaKeyword::kObject},
    {"additionalProperties", SchemaKeyword::kObject},
    {"items", SchemaKeyword::kArray},
    {"prefixItems", SchemaKeyword::kArray},
    {"minItems", SchemaKeyword::kArray},
    {"maxItems", SchemaKeyword::kArray},
    {"minLength", SchemaKeyword::kString},
    {"maxLength", SchemaKeyword::kString},
    {"minimum", SchemaKeyword::kNumber},
    {"maximum", SchemaKeyword::kNumber},
    {"exclusiveMinimum", SchemaKeyword::kNumber},
    {"exclusiveMaximum", SchemaKeyword::kNumber},
    {"$defs", SchemaKeyword::kAnnotation},
    {"definitions", SchemaKeyword::kAnnotation},
    {"title", SchemaKeyword::kAnnotation},
    {"description", SchemaKeyword::kAnnotation},
    {"default", SchemaKeyword::kAnnotation},
    {"examples", SchemaKeyword::kAnnotation},
    {"example", SchemaKeyword::kAnnotation},
    {"deprecated", SchemaKeyword::kAnnotation},
    {"readOnly", SchemaKeyword::kAnnotation},
    {"writeOnly", SchemaKeyword::kAnnotation},
    {"discriminator", SchemaKeyword::kAnnotation},
    {"$comment", SchemaKeyword::kAnnotation},
});

}  // namespace

std::string SchemaPlace::text() const {
  std::vector<std::string_view> keys;
  for (const SchemaPlace* at = this; at->above != nullptr; at = at->above) keys.push_back(at->key);
  std::string out = "#";
  for (auto name = keys.rbegin(); name != keys.rend(); ++name) {
    out += '/';
    for (const char c : name->substr(0, 80)) {
      out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    }
  }
  return printable(out, 300);
}

void SchemaPlace::invalid(std::string_view why) const {
  throw_error(ErrorCode::kInvalidData, "schema {}: {}", text(), why);
}

void SchemaPlace::unsupported(std::string_view why) const {
  throw_error(ErrorCode::kUnsupported, "schema {}: {}", text(), why);
}

SchemaKeyword schema_keyword(std::string_view name) {
  const auto found = std::find_if(kKeywords.begin(), kKeywords.end(),
                                  [&](const Entry& entry) { return entry.first == name; });
  if (found != kKeywords.end()) return found->second;
  return name.starts_with("x-") ? SchemaKeyword::kAnnotation : SchemaKeyword::kUnknown;
}

}  // namespace moeopt
