#include "cli/settings_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <system_error>

namespace moeopt::cli {

void SettingsFlags::add_to(CLI::App& verb) {
  verb.add_option("--config", config_file_, "YAML file with settings")
      ->type_name("FILE")
      ->envname("MOEOPT_CONFIG");
  for (const FlagInfo& flag : setting_flags()) {
    const std::string help = fmt::format("{} [{}]", flag.help, flag.environment_name);
    const bool is_optimisation = !flag.takes_value;
    if (is_optimisation) {
      verb.add_flag("--" + flag.name, switches_[flag.name], help)->group("Optimisations");
    } else {
      verb.add_option("--" + flag.name, values_[flag.name], help)
          ->type_name(flag.placeholder)
          ->group("Settings");
    }
  }
}

Settings SettingsFlags::load() const {
  SettingsSources sources;
  for (const auto& [name, text] : values_) {
    if (!text.empty()) sources.flags[name] = text;
  }
  for (const auto& [name, given] : switches_) {
    if (given) sources.flags[name] = "1";
  }
  sources.environment = process_environment;
  if (!config_file_.empty()) sources.config_file = config_file_;
  sources.data_folders = data_folders();
  return load_settings(sources);
}

std::vector<std::filesystem::path> data_folders() {
  std::error_code failed;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", failed);
  return data_folders_of(failed ? std::filesystem::path() : program, process_environment);
}

}  // namespace moeopt::cli
