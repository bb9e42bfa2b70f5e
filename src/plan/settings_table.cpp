#include "plan/settings_table.h"

#include <algorithm>
#include <vector>

#include "plan/optimisations.h"

namespace moeopt {
namespace {

constexpr double kMostTokens = 16'777'216;  // of one sequence

SettingInfo integer(std::string name, double minimum, double maximum, std::string placeholder,
                    std::string help) {
  return {.name = std::move(name),
          .type = SettingType::kInteger,
          .minimum = minimum,
          .maximum = maximum,
          .may_be_auto = true,
          .choices = {},
          .placeholder = std::move(placeholder),
          .help = std::move(help)};
}

SettingInfo text(std::string name, std::string placeholder, std::string help) {
  return {.name = std::move(name),
          .type = SettingType::kText,
          .choices = {},
          .placeholder = std::move(placeholder),
          .help = std::move(help)};
}

SettingInfo choice(std::string name, std::vector<std::string> choices, std::string help) {
  return {.name = std::move(name),
          .type = SettingType::kChoice,
          .choices = std::move(choices),
          .placeholder = "NAME",
          .help = std::move(help)};
}

std::vector<SettingRow> make_rows() {
  SettingInfo block_tokens = integer("block-tokens", 8, 128, "N", "tokens of one KV block");
  block_tokens.choices = {"8", "16", "32", "64", "128"};
  block_tokens.may_be_auto = false;
  SettingInfo max_step_ms =
      integer("max-step-ms", 0, 60'000, "MS",
              "longest share of a step that prefill may take while others stream (0: no limit)");
  max_step_ms.may_be_auto = false;
  const SettingInfo utilisation = {
      .name = "gpu-memory-utilization",
      .type = SettingType::kReal,
      .minimum = 0.05,
      .maximum = 1.0,
      .choices = {},
      .placeholder = "SHARE",
      .help = "share of a device's memory to plan with (CPU: of the memory now available)"};
  return {
      {text("profile", "NAME|FILE", "settings to start from: a shipped profile or a YAML file"),
       &Settings::profile, "balanced"},
      {text("hardware", "NAME", "auto, cpu, or a GPU and a count such as h100x1 or h200x8"),
       &Settings::hardware, "auto"},
      {integer("gpus", 1, 64, "N", "GPUs to spread the model over (auto: all that work)"),
       &Settings::gpus, "auto"},
      {integer("max-model-len", 1, kMostTokens, "TOKENS",
               "longest sequence, prompt and output together"),
       &Settings::max_model_len, "auto"},
      {integer("batch-size", 1, 65536, "N",
               "sequences that must fit at max-model-len at the same time"),
       &Settings::batch_size, "auto"},
      {integer("max-num-seqs", 1, 65536, "N", "sequences in one step"), &Settings::max_num_seqs,
       "auto"},
      {integer("max-num-batched-tokens", 1, 1'048'576, "TOKENS",
               "tokens in one step; longer prompts go in chunks"),
       &Settings::max_num_batched_tokens, "auto"},
      {std::move(max_step_ms), &Settings::max_step_ms, "250"},
      {utilisation, &Settings::gpu_memory_utilization, "0.9"},
      {integer("kv-cache-tokens", 8, 1e12, "TOKENS",
               "keys and values kept, at most (auto: what the memory has room for)"),
       &Settings::kv_cache_tokens, "auto"},
      {choice("kv-dtype", {"auto", "bf16", "f32", "fp8"}, "how keys and values are stored"),
       &Settings::kv_dtype, "auto"},
      {std::move(block_tokens), &Settings::block_tokens, "16"},
      {integer("threads", 1, 1024, "N", "CPU threads (auto: one a physical core)"),
       &Settings::threads, "auto"},
      {choice("isa", {"auto", "portable", "avx2", "avx512", "avx512bf16", "amx"},
              "instruction set of the CPU tiles"),
       &Settings::isa, "auto"},
  };
}

}  // namespace

std::span<const SettingRow> setting_rows() {
  static const std::vector<SettingRow> rows = make_rows();
  return rows;
}

const SettingRow* find_setting(std::string_view key) {
  const auto rows = setting_rows();
  const auto at =
      std::ranges::find_if(rows, [&](const SettingRow& r) { return r.info.key() == key; });
  return at == rows.end() ? nullptr : &*at;
}

std::span<const SettingInfo> setting_table() {
  static const std::vector<SettingInfo> infos = [] {
    std::vector<SettingInfo> made;
    for (const SettingRow& row : setting_rows()) made.push_back(row.info);
    return made;
  }();
  return infos;
}

std::string SettingInfo::key() const {
  std::string key = name;
  std::ranges::replace(key, '-', '_');
  return key;
}

namespace {

std::string environment_name_of(std::string_view flag) {
  std::string name = "MOEOPT_";
  for (const char c : flag) {
    name += c == '-' ? '_' : (c >= 'a' && c <= 'z') ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return name;
}

}  // namespace

std::string SettingInfo::environment_name() const {
  return environment_name_of(name);
}

std::vector<FlagInfo> setting_flags() {
  std::vector<FlagInfo> flags;
  const auto add = [&](const std::string& name, bool takes_value, std::string placeholder,
                       std::string help) {
    flags.push_back(
        {name, takes_value, std::move(placeholder), environment_name_of(name), std::move(help)});
  };
  for (const SettingRow& row : setting_rows()) {
    add(row.info.name, true, row.info.placeholder, row.info.help);
  }
  for (const Optimisation& optimisation : optimisation_table()) {
    add(fmt::format("enable-{}", optimisation.name), false, "", std::string(optimisation.help));
    add(fmt::format("disable-{}", optimisation.name), false, "",
        fmt::format("never {}", optimisation.name));
    add(fmt::format("require-{}", optimisation.name), false, "",
        fmt::format("do not start unless {} is applied", optimisation.name));
  }
  return flags;
}

}  // namespace moeopt
