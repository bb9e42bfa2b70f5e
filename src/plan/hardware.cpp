#include "plan/hardware.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

constexpr int kMostDevices = 8;  // of one host
constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

// What cudaMemGetInfo reports as the total, a little under the data sheet's figure.
struct GpuModel {
  std::string_view name;
  std::string_view label;
  double memory_gib;
  int compute_capability;
};
constexpr std::array<GpuModel, 3> kGpuModels = {{
    {"h100", "H100 80 GB", 79.1, 90},
    {"h200", "H200 141 GB", 139.8, 90},
    {"b200", "B200 180 GB", 178.3, 100},
}};

Hardware cpu_of(const HostProbe& host) {
  Hardware hardware;
  hardware.kind = HardwareKind::kCpu;
  hardware.name = "cpu";
  hardware.label = host.limited_by_cgroup ? "this machine's CPU, memory limited by its cgroup"
                                          : "this machine's CPU";
  hardware.memory_bytes = host.available_bytes;
  hardware.threads = host.threads;
  hardware.unused_gpus = host.gpus;
  return hardware;
}

Hardware gpu_of(const GpuModel& model, int devices) {
  Hardware hardware;
  hardware.kind = HardwareKind::kGpu;
  hardware.name = fmt::format("{}x{}", model.name, devices);
  hardware.label = fmt::format("{} x {}", devices, model.label);
  hardware.devices = devices;
  hardware.memory_bytes = static_cast<std::uint64_t>(model.memory_gib * kGiB);
  hardware.compute_capability = model.compute_capability;
  hardware.estimated = true;
  return hardware;
}

[[noreturn]] void refuse(std::string_view text) {
  std::vector<std::string> known = {"auto", "cpu"};
  for (const GpuModel& model : kGpuModels) {
    for (const int devices : {1, 2, 4, 8})
      known.push_back(fmt::format("{}x{}", model.name, devices));
  }
  const std::vector<std::string_view> views(known.begin(), known.end());
  const std::string_view nearest = nearest_match(text, views);
  throw Error(ErrorCode::kUsage,
              fmt::format("hardware \"{}\" is not auto, cpu, or h100, h200 or b200 with a count "
                          "from 1 to {} such as h100x8",
                          printable(text, 40), kMostDevices),
              nearest.empty() ? std::string() : fmt::format("did you mean {}?", nearest));
}

}  // namespace

bool has_backend(HardwareKind kind) {
  return kind == HardwareKind::kCpu;
}

Hardware parse_hardware(std::string_view text, const HostProbe& host) {
  std::string name(text);
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (name == "auto" || name == "cpu") return cpu_of(host);
  for (const GpuModel& model : kGpuModels) {
    if (!name.starts_with(model.name)) continue;
    const std::string_view rest = std::string_view(name).substr(model.name.size());
    if (rest.empty()) return gpu_of(model, 1);
    if (rest.front() != 'x') break;
    int devices = 0;
    const auto [end, error] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), devices);
    if (error != std::errc() || end != rest.data() + rest.size()) break;
    if (devices < 1 || devices > kMostDevices) break;
    return gpu_of(model, devices);
  }
  refuse(text);
}

std::vector<Hardware> larger_hardware() {
  std::vector<Hardware> all;
  all.reserve(kGpuModels.size());
  for (const GpuModel& model : kGpuModels) all.push_back(gpu_of(model, kMostDevices));
  return all;
}

}  // namespace moeopt
