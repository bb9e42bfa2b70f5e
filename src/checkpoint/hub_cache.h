// The local Hugging Face cache, read only:
//   <cache>/models--org--name/refs/<revision>         text: a commit
//   <cache>/models--org--name/snapshots/<commit>/...  symlinks into ../../blobs
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/environment.h"

namespace moeopt {

// The first that is set of HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub and
// ~/.cache/huggingface/hub, whether it exists or not; nullopt without HOME.
std::optional<std::filesystem::path> hub_cache_folder(const EnvironmentLookup& environment);

inline constexpr std::string_view kMainRevision = "main";
inline constexpr std::string_view kModelHint =
    "a model is a folder, or a name such as Qwen/Qwen3-30B-A3B in the Hugging Face cache";

struct HubName {
  std::string repository;  // "org/name", or "name" for the few models without an organisation
  std::string revision;    // "main" unless asked for
};

// nullopt when `text` cannot name a repository: more than one '/', characters that the hub forbids.
std::optional<HubName> parse_hub_name(std::string_view text);

// The snapshot's folder. Error(kNotFound) names the folder looked in and the command that fetches
// the model; Error(kInvalidData) when what refs/ says is not a commit.
std::filesystem::path find_in_hub_cache(const HubName& name, const EnvironmentLookup& environment);

// "fetch it: hf download org/name"; for a name without organisation, what a model can be.
std::string fetch_hint(std::string_view repository, std::string_view revision = kMainRevision);

// A leading "~" as $HOME.
std::filesystem::path expand_home(std::string_view path, const EnvironmentLookup& environment);

}  // namespace moeopt
