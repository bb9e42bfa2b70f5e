// The table of known models: config fields as data, so that a bare name can be inspected and
// planned without its checkpoint. One file a model under the data folder's models/.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace moeopt {

struct KnownModel {
  std::vector<std::string> names;  // hub names, "org/model"
  double published_billion = 0;    // parameters, as its publisher counts them
  double published_active_billion = 0;
  Json config;        // for parse_model_spec
  std::string where;  // the file, for messages
};

// Every *.json directly in `folder`, by file name; empty when there is no such folder.
// Error(kInvalidData) names a file that is not such a table.
std::vector<KnownModel> known_models(const std::filesystem::path& folder);

// By hub name, by its part behind the organisation, or by the file's name; letter case is ignored.
std::optional<KnownModel> find_known_model(const std::filesystem::path& folder,
                                           std::string_view name);

}  // namespace moeopt
