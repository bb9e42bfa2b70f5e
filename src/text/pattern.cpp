#include "text/pattern.h"

namespace moeopt {

Pattern::Pattern(const JsonField& field) {
  if (const auto literal = field.find("String")) {
    literal_ = literal->string();
    if (literal_.empty()) literal->unsupported("an empty pattern");
    return;
  }
  const JsonField regex = field.at("Regex");
  regex_.emplace(regex.string(), regex.name());
}

}  // namespace moeopt
