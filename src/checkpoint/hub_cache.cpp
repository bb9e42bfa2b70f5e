#include "checkpoint/hub_cache.h"

#include <algorithm>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/strings.h"
#include "checkpoint/folder_file.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> lookup(const EnvironmentLookup& environment, const char* name) {
  auto value = environment(name);
  if (value && value->empty()) return std::nullopt;
  return value;
}

bool is_word_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.';
}

// One part of a repository's name, by the hub's rules.
bool is_hub_word(std::string_view word) {
  if (word.empty() || word.size() > 96) return false;
  if (word.find("--") != std::string_view::npos || word.find("..") != std::string_view::npos) {
    return false;
  }
  const auto is_edge = [](char c) { return c == '-' || c == '.'; };
  return !is_edge(word.front()) && !is_edge(word.back()) &&
         std::all_of(word.begin(), word.end(), is_word_char);
}

// Branches may have slashes ("refs/pr/1"): every part must be a plain name.
bool is_revision(std::string_view revision) {
  if (revision.size() > 255) return false;
  const std::vector<std::string> parts = split(revision, '/');
  return std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
    return is_plain_file_name(part) && std::all_of(part.begin(), part.end(), is_word_char);
  });
}

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// The commit that refs/<revision> names; nullopt without such a file.
std::optional<std::string> read_ref(const fs::path& repository, const std::string& revision) {
  const fs::path file = repository / "refs" / revision;
  std::error_code error;
  if (!fs::exists(file, error)) return std::nullopt;
  constexpr std::size_t kMaxRefBytes = 1024;
  std::string commit = read_file(file, kMaxRefBytes);
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
  if (!is_plain_file_name(commit) || !std::all_of(commit.begin(), commit.end(), is_word_char)) {
    throw_error(ErrorCode::kInvalidData, "{}: \"{}\" is not a commit", file.string(),
                printable(commit));
  }
  return commit;
}

}  // namespace

std::optional<HubName> parse_hub_name(std::string_view text) {
  HubName name{.repository = std::string(text), .revision = std::string(kMainRevision)};
  if (const auto at = text.find('@'); at != std::string_view::npos) {
    name.repository = text.substr(0, at);
    name.revision = text.substr(at + 1);
  }
  const std::vector<std::string> words = split(name.repository, '/');
  const bool valid = words.size() <= 2 && std::all_of(words.begin(), words.end(), is_hub_word) &&
                     is_revision(name.revision);
  return valid ? std::optional(name) : std::nullopt;
}

fs::path expand_home(std::string_view path, const EnvironmentLookup& environment) {
  if (path != "~" && !path.starts_with("~/")) return path;
  const auto home = lookup(environment, "HOME");
  return home ? fs::path(*home + std::string(path.substr(1))) : fs::path(path);
}

std::optional<fs::path> hub_cache_folder(const EnvironmentLookup& environment) {
  if (const auto cache = lookup(environment, "HF_HUB_CACHE")) {
    return expand_home(*cache, environment);
  }
  if (const auto home = lookup(environment, "HF_HOME")) {
    return expand_home(*home, environment) / "hub";
  }
  if (const auto cache = lookup(environment, "XDG_CACHE_HOME")) {
    return expand_home(*cache, environment) / "huggingface" / "hub";
  }
  const auto home = lookup(environment, "HOME");
  if (!home) return std::nullopt;
  return fs::path(*home) / ".cache" / "huggingface" / "hub";
}

std::string fetch_hint(std::string_view repository, std::string_view revision) {
  if (repository.find('/') == std::string_view::npos) return std::string(kModelHint);
  return fmt::format("fetch it: hf download {}{}{}", repository,
                     revision == kMainRevision ? "" : " --revision ",
                     revision == kMainRevision ? "" : revision);
}

fs::path find_in_hub_cache(const HubName& name, const EnvironmentLookup& environment) {
  const std::string asked = name.revision == kMainRevision
                                ? name.repository
                                : fmt::format("{} at revision {}", name.repository, name.revision);
  const std::string hint = fetch_hint(name.repository, name.revision);
  const auto cache = hub_cache_folder(environment);
  if (!cache) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{} is not a folder, and there is no Hugging Face cache to look in: "
                            "neither HF_HUB_CACHE, HF_HOME nor HOME is set",
                            asked));
  }
  std::string folder_name = "models--" + name.repository;
  if (const auto slash = folder_name.find('/'); slash != std::string::npos) {
    folder_name.replace(slash, 1, "--");
  }
  const fs::path repository = *cache / folder_name;
  if (!is_folder(repository)) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{} is not a folder, and not in the Hugging Face cache: looked for {}",
                            asked, repository.string()),
                hint);
  }
  const std::string commit = read_ref(repository, name.revision).value_or(name.revision);
  fs::path snapshot = repository / "snapshots" / commit;
  if (commit.find('/') != std::string::npos || !is_folder(snapshot)) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{} is not in the Hugging Face cache: looked for {} and {}", asked,
                            (repository / "refs" / name.revision).string(), snapshot.string()),
                hint);
  }
  return snapshot;
}

}  // namespace moeopt
