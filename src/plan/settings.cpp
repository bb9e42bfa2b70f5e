#include "plan/settings.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "base/file.h"
#include "base/strings.h"
#include "plan/optimisations.h"
#include "plan/profiles.h"
#include "plan/settings_table.h"
#include "plan/yaml_file.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFileLimitBytes = std::size_t{64} << 10;
constexpr std::string_view kSection = "optimisations";

// One value from one place, not yet read as its type.
struct Assignment {
  const SettingRow* row = nullptr;  // a setting, or else:
  int optimisation = -1;            // index in optimisation_table()
  std::string text;
  std::string where;  // opens messages
  Origin origin;
};

int optimisation_index(std::string_view name) {
  const auto table = optimisation_table();
  const auto at = std::ranges::find(table, name, &Optimisation::name);
  return at == table.end() ? -1 : static_cast<int>(at - table.begin());
}

[[noreturn]] void refuse_name(std::string_view where, std::string_view what, std::string_view name,
                              const std::vector<std::string>& known) {
  const std::vector<std::string_view> views(known.begin(), known.end());
  const std::string_view nearest = nearest_match(name, views);
  throw Error(ErrorCode::kUsage,
              fmt::format("{}: no {} is called \"{}\"", where, what, printable(name, 60)),
              nearest.empty() ? fmt::format("known: {}", fmt::join(known, ", "))
                              : fmt::format("did you mean {}?", nearest));
}

std::vector<std::string> known_keys(bool in_profile) {
  std::vector<std::string> keys;
  for (const SettingRow& row : setting_rows()) {
    if (!in_profile || row.info.name != "profile") keys.push_back(row.info.key());
  }
  if (in_profile) keys.emplace_back("description");
  keys.emplace_back(kSection);
  return keys;
}

std::vector<std::string> known_optimisations() {
  std::vector<std::string> names;
  for (const Optimisation& row : optimisation_table()) names.emplace_back(row.name);
  return names;
}

// A profile or a user's file. `label` opens the origin: "profile balanced", or empty.
std::vector<Assignment> read_settings_file(const fs::path& file, OriginKind kind,
                                           std::string_view label) {
  const bool in_profile = kind == OriginKind::kProfile;
  const std::string shown = printable(file.string());
  std::vector<Assignment> assignments;
  for (const YamlEntry& entry : parse_yaml_settings(read_file(file, kFileLimitBytes), shown)) {
    const std::string line = fmt::format("{}:{}", shown, entry.line);
    Origin origin{kind, label.empty() ? line : fmt::format("{} ({})", label, line)};
    if (entry.section.empty()) {
      if (in_profile && entry.key == "description") continue;
      if (entry.key == kSection) {
        throw_error(ErrorCode::kUsage, "{}: {}: expected lines such as `  fp8: prefer` below it",
                    line, kSection);
      }
      const SettingRow* row = find_setting(entry.key);
      if (row == nullptr || (in_profile && row->info.name == "profile")) {
        refuse_name(line, "setting", entry.key, known_keys(in_profile));
      }
      assignments.push_back(
          {row, -1, entry.text, fmt::format("{}: {}", line, entry.key), std::move(origin)});
      continue;
    }
    if (entry.section != kSection) {
      refuse_name(line, "section", entry.section, {std::string(kSection)});
    }
    std::string name = entry.key;
    std::ranges::replace(name, '_', '-');
    const int index = optimisation_index(name);
    if (index < 0) refuse_name(line, "optimisation", entry.key, known_optimisations());
    if (std::ranges::find(assignments, index, &Assignment::optimisation) != assignments.end()) {
      throw_error(ErrorCode::kUsage, "{}: {}: given twice", line, name);
    }
    assignments.push_back(
        {nullptr, index, entry.text, fmt::format("{}: {}", line, entry.key), std::move(origin)});
  }
  return assignments;
}

// Whether a flag without a value is meant: "1" and "true" say it, "0" and "false" unsay it.
bool parse_switch(std::string_view text, std::string_view where) {
  if (text == "1" || text == "true") return true;
  if (text == "0" || text == "false") return false;
  throw_error(ErrorCode::kUsage, "{}: \"{}\" is not 1 or 0", where, printable(text, 60));
}

struct Verb {
  std::string_view prefix;
  Ask ask;
};
constexpr Verb kVerbs[] = {
    {"enable-", Ask::kPrefer}, {"disable-", Ask::kOff}, {"require-", Ask::kRequire}};

// What flags or variables say, by flag name; `name_of` is how a message calls the flag.
std::vector<Assignment> read_named(OriginKind kind,
                                   const std::map<std::string, std::string>& text_by_flag,
                                   const std::function<std::string(const FlagInfo&)>& name_of) {
  std::vector<Assignment> assignments;
  for (const FlagInfo& flag : setting_flags()) {
    const auto at = text_by_flag.find(flag.name);
    if (at == text_by_flag.end()) continue;
    const std::string where = name_of(flag);
    const Origin origin{kind, where};
    if (flag.takes_value) {
      std::string key = flag.name;
      std::ranges::replace(key, '-', '_');
      assignments.push_back({find_setting(key), -1, at->second, where, origin});
      continue;
    }
    if (!parse_switch(at->second, where)) continue;
    for (const Verb& verb : kVerbs) {
      if (!flag.name.starts_with(verb.prefix)) continue;
      const int index = optimisation_index(std::string_view(flag.name).substr(verb.prefix.size()));
      MOEOPT_CHECK(index >= 0);
      const auto said = std::ranges::find(assignments, index, &Assignment::optimisation);
      if (said != assignments.end()) {
        throw_error(ErrorCode::kUsage, "{} and {} contradict each other", said->where, where);
      }
      assignments.push_back({nullptr, index, std::string(ask_name(verb.ask)), where, origin});
    }
  }
  return assignments;
}

std::vector<Assignment> read_flags(const std::map<std::string, std::string>& flags) {
  std::vector<std::string> known;
  for (const FlagInfo& flag : setting_flags()) known.push_back(fmt::format("--{}", flag.name));
  for (const auto& [name, text] : flags) {
    const std::string flag = fmt::format("--{}", name);
    if (std::ranges::find(known, flag) == known.end()) {
      refuse_name("command line", "flag", flag, known);
    }
  }
  return read_named(OriginKind::kFlag, flags,
                    [](const FlagInfo& flag) { return fmt::format("--{}", flag.name); });
}

// An empty variable says nothing, as with most programs.
std::vector<Assignment> read_environment(const EnvironmentLookup& environment) {
  if (!environment) return {};
  std::map<std::string, std::string> text_by_flag;
  for (const FlagInfo& flag : setting_flags()) {
    if (auto text = environment(flag.environment_name); text && !text->empty()) {
      text_by_flag.emplace(flag.name, std::move(*text));
    }
  }
  return read_named(OriginKind::kEnvironment, text_by_flag,
                    [](const FlagInfo& flag) { return flag.environment_name; });
}

void assign_all(const std::vector<Assignment>& assignments, Settings& settings) {
  for (const Assignment& assignment : assignments) {
    if (assignment.row != nullptr) {
      assign_setting(*assignment.row, assignment.text, assignment.where, assignment.origin,
                     settings);
    } else {
      settings.optimisations.at(assignment.optimisation) = {
          parse_ask(assignment.text, assignment.where), assignment.origin};
    }
  }
}

Settings default_settings() {
  Settings settings;
  for (const Optimisation& row : optimisation_table()) {
    settings.optimisations.push_back({row.default_ask, {}});
  }
  for (const SettingRow& row : setting_rows()) {
    assign_setting(row, row.default_text, row.info.name, {}, settings);
  }
  return settings;
}

std::optional<fs::path> config_file_of(const SettingsSources& sources) {
  if (sources.config_file) return sources.config_file;
  if (!sources.environment) return std::nullopt;
  if (const auto named = sources.environment("MOEOPT_CONFIG"); named && !named->empty()) {
    return fs::path(*named);
  }
  return user_config_file(sources.environment);
}

}  // namespace

Settings load_settings(const SettingsSources& sources) {
  const std::optional<fs::path> config_file = config_file_of(sources);
  std::vector<std::vector<Assignment>> layers;  // lowest first
  layers.push_back(config_file ? read_settings_file(*config_file, OriginKind::kFile, "")
                               : std::vector<Assignment>{});
  layers.push_back(read_environment(sources.environment));
  layers.push_back(read_flags(sources.flags));

  // Which profile it is, the layers above the profiles say.
  Settings settings = default_settings();
  for (const auto& layer : layers) assign_all(layer, settings);
  const Setting<std::string> profile = settings.profile;

  settings = default_settings();
  const bool asked = profile.origin.kind != OriginKind::kDefault;
  const bool is_shipped_anywhere = !profile_names(sources.data_folders).empty();
  if (profile.value != kNoProfile && (asked || is_shipped_anywhere)) {
    const fs::path base = profile.origin.kind == OriginKind::kFile && config_file
                              ? config_file->parent_path()
                              : fs::path();
    const fs::path file = find_profile(profile.value, base, sources.data_folders,
                                       asked ? profile.origin.where : "default profile");
    const std::string label = fmt::format("profile {}", printable(file.stem().string(), 60));
    assign_all(read_settings_file(file, OriginKind::kProfile, label), settings);
  } else {
    settings.profile.value = kNoProfile;
  }
  for (const auto& layer : layers) assign_all(layer, settings);
  return settings;
}

}  // namespace moeopt
