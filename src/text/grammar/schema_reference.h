// What "$ref" of a schema names: a JSON pointer into the same document, as a fragment of a URI.
// Invariant: each object is looked through once, however many references lead through it.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace moeopt {

class SchemaReferences {
 public:
  // `root` must outlive it and stay where it is.
  explicit SchemaReferences(const nlohmann::ordered_json& root) : root_(root) {}

  struct Target {
    const nlohmann::ordered_json* schema;
    std::vector<std::string> keys;  // the way there
  };
  // `text` is "#" or begins with "#/"; nothing when the document has no such place.
  std::optional<Target> find(const std::string& text);

 private:
  using Members = std::map<std::string, const nlohmann::ordered_json*>;
  const nlohmann::ordered_json* member(const nlohmann::ordered_json& object,
                                       const std::string& name);

  const nlohmann::ordered_json& root_;
  std::unordered_map<const nlohmann::ordered_json*, Members> members_;
};

}  // namespace moeopt
