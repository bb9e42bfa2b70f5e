// Where profiles and the user's own file lie. For src/plan alone.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "plan/settings.h"

namespace moeopt {

constexpr std::string_view kNoProfile = "none";

// The file of a profile: `name_or_path` with a '/' or ending in .yaml is a path, relative to
// `base`; otherwise a name in one of the data folders ("single-h100" and "single_h100" are one).
// Error opens with `where`: kUsage for an unknown name, kNotFound for an absent file.
std::filesystem::path find_profile(const std::string& name_or_path,
                                   const std::filesystem::path& base,
                                   std::span<const std::filesystem::path> data_folders,
                                   std::string_view where);

// $XDG_CONFIG_HOME/moeopt/config.yaml, or ~/.config/moeopt/config.yaml; nullopt when absent.
std::optional<std::filesystem::path> user_config_file(const EnvironmentLookup& environment);

}  // namespace moeopt
