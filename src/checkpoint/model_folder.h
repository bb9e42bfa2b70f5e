// From what a user calls a model to the folder that holds it, and to what lies in that folder.
// Invariant: nothing is ever downloaded; a model that is not on this machine is an error that says
// where it was looked for and which command fetches it.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/tensor_source.h"

namespace moeopt {

struct ModelFolder {
  std::filesystem::path folder;
  std::string name;  // "org/name" from the cache, else the folder's own name
  bool from_hub_cache = false;
};

// A path to a folder, else "org/name" or "org/name@revision" in the local Hugging Face cache
// (hub_cache.h). A revision is a branch, a tag or a commit; without one it is "main".
// Error(kNotFound) as above, Error(kUsage) for a name that can be neither, Error(kUnsupported) for
// a file in a format that is not read, Error(kInvalidData) for a broken cache.
ModelFolder resolve_model(std::string_view name_or_path,
                          const EnvironmentLookup& environment = process_environment);

// A file of the model that does not leave its folder; nullopt when absent. See find_in_folder.
std::optional<std::filesystem::path> find_file(const ModelFolder& model, std::string_view name);
// The same, or Error(kNotFound).
std::filesystem::path require_file(const ModelFolder& model, std::string_view name);

// config.json, an object. Error(kNotFound), Error(kInvalidData) naming the file.
Json read_config(const ModelFolder& model);
// generation_config.json when there is one.
std::optional<Json> read_generation_config(const ModelFolder& model);

// Reads the headers of the model's weights, and their data when it is viewed. See open_safetensors.
std::unique_ptr<TensorSource> open_tensors(const ModelFolder& model);

}  // namespace moeopt
