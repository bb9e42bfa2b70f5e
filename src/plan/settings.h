// Settings: every value a run starts with, and where each one came from.
// Precedence: flags, environment, the user's file, the profile, defaults.
// Invariant: a Settings that left load_settings() is in range; 0 means "auto" where a value says
// so, and the planner, never the reader, decides what auto is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/environment.h"

namespace moeopt {

enum class OriginKind { kDefault, kProfile, kFile, kEnvironment, kFlag };  // in precedence's order

struct Origin {
  OriginKind kind = OriginKind::kDefault;
  std::string where;  // "profile balanced (/usr/share/.../balanced.yaml:7)", "--threads"

  std::string text() const;  // "default" when `where` is empty
};

template <typename T>
struct Setting {
  T value{};
  Origin origin;
};

enum class KvDtype { kAuto, kBf16, kF32, kFp8 };
std::string_view kv_dtype_name(KvDtype dtype);

// What the user wants of an optimisation.
enum class Ask { kOff, kPrefer, kRequire };
std::string_view ask_name(Ask ask);

struct Settings {
  Setting<std::string> profile;            // a name, or a path to a YAML file
  Setting<std::string> hardware;           // for parse_hardware
  Setting<int> gpus;                       // 0: all that work
  Setting<std::int64_t> max_model_len;     // tokens of one sequence; 0: auto
  Setting<int> batch_size;                 // sequences that must fit at max_model_len; 0: none
  Setting<int> max_num_seqs;               // sequences of one step; 0: auto
  Setting<int> max_num_batched_tokens;     // tokens of one step; 0: auto
  Setting<int> max_step_ms;                // of a step's prefill while others stream; 0: no limit
  Setting<double> gpu_memory_utilization;  // share of a device's memory, or of the host's
  Setting<std::int64_t> kv_cache_tokens;   // of all sequences together, at most; 0: auto
  Setting<KvDtype> kv_dtype;
  Setting<int> block_tokens;                // tokens of a KV block
  Setting<int> threads;                     // 0: one a physical core
  Setting<std::string> isa;                 // "auto", or an instruction set by name
  std::vector<Setting<Ask>> optimisations;  // in the order of optimisation_table()
};

enum class SettingType { kInteger, kReal, kChoice, kText };

// One row of the table of settings. Its flag is --name, its variable MOEOPT_NAME, its YAML key the
// name with underscores.
struct SettingInfo {
  std::string name;  // "max-model-len"
  SettingType type;
  double minimum = 0;  // numbers: inclusive
  double maximum = 0;
  bool may_be_auto = false;          // the text "auto" is understood
  std::vector<std::string> choices;  // kChoice
  std::string placeholder;           // for help: "TOKENS"
  std::string help;                  // one line

  std::string environment_name() const;
  std::string key() const;
};

std::span<const SettingInfo> setting_table();

// Every flag that load_settings understands: the settings, then --enable-X, --disable-X and
// --require-X of each optimisation (these take no value).
struct FlagInfo {
  std::string name;  // without the dashes
  bool takes_value;
  std::string placeholder;
  std::string environment_name;
  std::string help;
};
std::vector<FlagInfo> setting_flags();

struct SettingsSources {
  std::map<std::string, std::string> flags;  // without the dashes; "1" for one without a value
  EnvironmentLookup environment;             // empty: no environment
  std::optional<std::filesystem::path>
      config_file;  // --config; else the user's own, if there is one
  std::vector<std::filesystem::path> data_folders;  // a folder "profiles" lies in one of them
};

// Where `profiles/` and `models/` are looked for: $MOEOPT_DATA_DIR, ../share/moeopt next to the
// program, and the source tree that a program in its build folder belongs to.
std::vector<std::filesystem::path> data_folders_of(const std::filesystem::path& program,
                                                   const EnvironmentLookup& environment);

// Error(kUsage) names file, line and key, or flag, or variable, what was expected, and the nearest
// name for a misspelt one. Error(kNotFound) for a profile or file that is not there.
Settings load_settings(const SettingsSources& sources);

// Names of the profiles found in `data_folders`, sorted.
std::vector<std::string> profile_names(std::span<const std::filesystem::path> data_folders);

}  // namespace moeopt
