// `moeopt doctor`: what this machine has, what each missing thing costs, whether the program can
// serve here. Exit code 0 when it can, 1 when not.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/cpu_features.h"
#include "base/strings.h"
#include "cli/settings_flags.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include "plan/hardware.h"
#include "plan/settings.h"
#include "text/library_versions.h"
#ifdef MOEOPT_CUDA
#include "cuda/device_query.h"
#endif

namespace moeopt::cli {
namespace {

enum class Verdict { kGood, kCosts, kBroken };

struct Finding {
  std::string what, found;
  Verdict verdict = Verdict::kGood;
  std::string cost = {};  // what is lost, when something is
};

std::string cache_text() {
  std::string text;
  for (int index = 0; index < 8; ++index) {
    const std::string folder = fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/", index);
    std::string level, type, size;
    std::ifstream(folder + "level") >> level;
    std::ifstream(folder + "type") >> type;
    std::ifstream(folder + "size") >> size;
    if (level.empty() || type == "Instruction") continue;
    text += fmt::format("{}L{} {}", text.empty() ? "" : ", ", level, size);
  }
  return text.empty() ? "unknown" : text;
}

Finding cpu_finding(const HostProbe& host) {
  const CpuFeatures& cpu = cpu_features();
  Finding finding{"cpu", fmt::format("{}, {} threads, {} tiles; {}",
                                     cpu.brand.empty() ? "unknown processor" : cpu.brand,
                                     host.threads, isa_name(cpu.best()), cache_text())};
  if (cpu.best() == Isa::kPortable) {
    finding.verdict = Verdict::kCosts;
    finding.cost = "no AVX2: plain C++ tiles, several times slower than the memory allows";
  } else if (cpu.best() == Isa::kAvx2) {
    finding.verdict = Verdict::kCosts;
    finding.cost = "no bf16 instructions: prompts are read more slowly";
  }
  return finding;
}

Finding memory_finding(const HostProbe& host) {
  constexpr std::uint64_t kLittleBytes = std::uint64_t{512} << 20;
  Finding finding{"memory", fmt::format("{} available of {}{}", format_bytes(host.available_bytes),
                                        format_bytes(host.total_bytes),
                                        host.limited_by_cgroup ? " (control group limit)" : "")};
  if (host.available_bytes == 0) {
    finding.verdict = Verdict::kCosts;
    finding.cost = "/proc/meminfo cannot be read: plans need --hardware";
  } else if (host.available_bytes < kLittleBytes) {
    finding.verdict = Verdict::kBroken;
    finding.cost = "too little for any model";
  }
  return finding;
}

std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  if (!std::getline(file, line)) return "none";
  const auto at = line.find("Module");
  return at == std::string::npos ? line : line.substr(at + 8, line.find("  ", at + 8) - at - 8);
}

Finding gpu_finding(const HostProbe& host) {
  Finding finding{"gpu", fmt::format("{} NVIDIA GPU{}, driver {}", host.gpus,
                                     host.gpus == 1 ? "" : "s", driver_version())};
#ifdef MOEOPT_CUDA
  const cuda::GpuQuery query = cuda::query_gpus();
  for (const cuda::Gpu& gpu : query.gpus) {
    finding.found += fmt::format("; {} (sm_{}, {})", gpu.name, gpu.compute_capability,
                                 format_bytes(gpu.memory_bytes));
  }
  if (!query.problem.empty()) finding.found += fmt::format(" ({})", query.problem);
#endif
  finding.verdict = Verdict::kCosts;
  finding.cost = host.gpus == 0 ? "models run on the CPU"
                                : "this version runs models on the CPU alone; the GPUs stay idle";
  return finding;
}

Finding data_finding() {
  const auto profiles = profile_names(data_folders());
  std::string names;
  for (const std::string& name : profiles) names += (names.empty() ? "" : ", ") + name;
  Finding finding{"profiles", names.empty() ? "none found" : names};
  if (profiles.empty()) {
    finding.verdict = Verdict::kBroken;
    finding.cost = "the program's own data is missing: reinstall, or set MOEOPT_DATA_DIR";
  }
  return finding;
}

std::vector<Finding> findings() {
  const HostProbe host = probe_host();
  return {cpu_finding(host),
          memory_finding(host),
          gpu_finding(host),
          data_finding(),
          {"libraries",
           fmt::format("fmt {}.{}.{}, nlohmann-json {}.{}.{}, CLI11 {}, {}", FMT_VERSION / 10000,
                       FMT_VERSION / 100 % 100, FMT_VERSION % 100, NLOHMANN_JSON_VERSION_MAJOR,
                       NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH, CLI11_VERSION,
                       text_library_versions())}};
}

std::string_view mark(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGood:
      return "ok";
    case Verdict::kCosts:
      return "--";
    case Verdict::kBroken:
      return "NO";
  }
  return "";
}

int doctor(bool json) {
  const auto all = findings();
  bool can_serve = true;
  for (const Finding& finding : all) can_serve = can_serve && finding.verdict != Verdict::kBroken;
  if (json) {
    nlohmann::ordered_json out = {{"version", version_text()}, {"can_serve", can_serve}};
    for (const Finding& finding : all) {
      out["findings"].push_back({{"what", finding.what},
                                 {"found", finding.found},
                                 {"verdict", mark(finding.verdict)},
                                 {"cost", finding.cost}});
    }
    write_output(out.dump(2) + "\n");
  } else {
    std::string text = version_text() + "\n\n";
    for (const Finding& finding : all) {
      text += fmt::format("{}  {:<10} {}\n", mark(finding.verdict), finding.what, finding.found);
      if (!finding.cost.empty()) text += fmt::format("{:15}{}\n", "", finding.cost);
    }
    text += can_serve ? "\nThis machine can serve.\n" : "\nThis machine cannot serve.\n";
    write_output(text);
  }
  return can_serve ? 0 : 1;
}

}  // namespace

void add_doctor(CLI::App& program, int& exit_code) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = program.add_subcommand("doctor", "What this machine has, and what is missing");
  verb->add_flag("--json", *json, "The findings as JSON");
  verb->callback([json, &exit_code] { exit_code = doctor(*json); });
}

}  // namespace moeopt::cli
