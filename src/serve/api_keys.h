// Who may use the server: the keys of --api-key-file.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt::serve {

class ApiKeys {
 public:
  ApiKeys() = default;  // none: everyone may
  explicit ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}
  // One key a line; empty lines and lines that begin with # count for nothing. Error(kInvalidData)
  // for a file without keys, or with one that a header cannot carry.
  static ApiKeys from_file(const std::filesystem::path& file);

  bool empty() const { return keys_.empty(); }
  // `authorization`: the header's value. The time taken does not depend on how much of a key is
  // right.
  bool allow(std::string_view authorization) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace moeopt::serve
