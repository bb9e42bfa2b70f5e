#include "cli/model_description.h"

#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/strings.h"
#include "checkpoint/model_folder.h"
#include "cli/settings_flags.h"
#include "model/known_models.h"
#include "model/parse.h"

namespace moeopt::cli {
namespace {

bool has_weights(const ModelFolder& folder) {
  return find_file(folder, "model.safetensors") ||
         find_file(folder, "model.safetensors.index.json");
}

ModelDescription describe_folder(const ModelFolder& folder) {
  ModelDescription model;
  model.name = folder.name;
  model.spec = parse_model_spec(read_config(folder), (folder.folder / "config.json").string());
  if (has_weights(folder)) model.tensors = open_tensors(folder);
  return model;
}

std::optional<KnownModel> find_known(const std::string& name) {
  for (const std::filesystem::path& folder : data_folders()) {
    if (auto known = find_known_model(folder / "models", name)) return known;
  }
  return std::nullopt;
}

// The known name that `name` may have been meant to be, by hub name or its part behind the
// organisation; empty when none is near.
std::string nearest_known(const std::string& name) {
  std::vector<std::string> names;
  for (const std::filesystem::path& folder : data_folders()) {
    for (const KnownModel& known : known_models(folder / "models")) {
      for (const std::string& hub_name : known.names) {
        names.push_back(hub_name);
        names.push_back(hub_name.substr(hub_name.find('/') + 1));
      }
    }
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  return std::string(nearest_match(name, views));
}

}  // namespace

ModelDescription describe_model(const std::string& name_or_path) {
  try {
    return describe_folder(resolve_model(name_or_path));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound && error.code() != ErrorCode::kUsage) throw;
    const auto known = find_known(name_or_path);
    if (!known) {
      const std::string nearest = nearest_known(name_or_path);
      if (nearest.empty()) throw;
      throw Error(error.code(), error.what(), fmt::format("did you mean {}?", nearest));
    }
    ModelDescription model;
    model.name = known->names.front();
    model.spec = parse_model_spec(known->config, known->where);
    return model;
  }
}

}  // namespace moeopt::cli
