// The flags of plan's table of settings, as CLI11 options of a verb.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "plan/settings.h"

namespace CLI {
class App;
}

namespace moeopt::cli {

class SettingsFlags {
 public:
  // Adds --config and every flag of setting_flags() to `verb`. The object outlives the parsing.
  void add_to(CLI::App& verb);

  // What the user asked for, on this machine. Errors as load_settings.
  Settings load() const;

 private:
  std::map<std::string, std::string> values_;
  std::map<std::string, bool> switches_;
  std::string config_file_;
};

// Where profiles/ and models/ lie for the running program.
std::vector<std::filesystem::path> data_folders();

}  // namespace moeopt::cli
