#include "plan/profiles.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

bool is_path(std::string_view text) {
  return text.find('/') != std::string_view::npos || text.ends_with(".yaml") ||
         text.ends_with(".yml");
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

}  // namespace

std::vector<std::string> profile_names(std::span<const fs::path> data_folders) {
  std::set<std::string> names;
  for (const fs::path& folder : data_folders) {
    std::error_code error;
    for (fs::directory_iterator at(folder / "profiles", error), end; !error && at != end;
         at.increment(error)) {
      if (at->path().extension() == ".yaml") names.insert(at->path().stem().string());
    }
  }
  return {names.begin(), names.end()};
}

fs::path find_profile(const std::string& name_or_path, const fs::path& base,
                      std::span<const fs::path> data_folders, std::string_view where) {
  if (is_path(name_or_path)) {
    fs::path path = base / name_or_path;
    if (!is_file(path)) {
      throw_error(ErrorCode::kNotFound, "{}: there is no file {}", where, printable(path.string()));
    }
    return path;
  }
  std::string name = name_or_path;
  std::ranges::replace(name, '-', '_');
  for (const fs::path& folder : data_folders) {
    fs::path path = folder / "profiles" / (name + ".yaml");
    if (is_file(path)) return path;
  }
  const std::vector<std::string> names = profile_names(data_folders);
  if (names.empty()) {
    std::vector<std::string> looked;
    for (const fs::path& folder : data_folders) looked.push_back(printable(folder.string()));
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: no profiles found; looked for profiles/ in {}", where,
                            fmt::join(looked, ", ")),
                "MOEOPT_DATA_DIR names the folder that holds profiles/ and models/");
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string_view nearest = nearest_match(name, views);
  throw Error(ErrorCode::kUsage,
              fmt::format("{}: no profile is called \"{}\"; there are {}", where,
                          printable(name_or_path, 60), fmt::join(names, ", ")),
              nearest.empty() ? "a path to a YAML file works too"
                              : fmt::format("did you mean {}?", nearest));
}

std::optional<fs::path> user_config_file(const EnvironmentLookup& environment) {
  if (!environment) return std::nullopt;
  fs::path folder;
  // The XDG specification: a relative path there is ignored.
  if (const auto xdg = environment("XDG_CONFIG_HOME"); xdg && xdg->starts_with('/')) {
    folder = *xdg;
  } else if (const auto home = environment("HOME"); home && home->starts_with('/')) {
    folder = fs::path(*home) / ".config";
  } else {
    return std::nullopt;
  }
  fs::path file = folder / "moeopt" / "config.yaml";
  if (!is_file(file)) return std::nullopt;
  return file;
}

std::vector<fs::path> data_folders_of(const fs::path& program,
                                      const EnvironmentLookup& environment) {
  if (environment) {
    if (const auto asked = environment("MOEOPT_DATA_DIR"); asked && !asked->empty()) {
      return {*asked};
    }
  }
  const fs::path folder = program.parent_path();
  std::vector<fs::path> folders = {(folder / "../share/moeopt").lexically_normal()};
  const fs::path source = (folder / "../..").lexically_normal();  // of build/PRESET/moeopt
  if (is_file(source / "src/cli/main.cpp")) folders.insert(folders.begin(), source);
  return folders;
}

}  // namespace moeopt
