// Hardware: what a plan is made for, this machine or a named one.
// Invariant: memory_bytes is what one rank may see in all (a GPU's memory, or what the machine's
// available memory and the control groups leave to this process), before any share is taken of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt {

// What /proc and the control groups say. `root` is "/" but for tests.
struct HostProbe {
  std::uint64_t available_bytes = 0;  // MemAvailable, or what the tightest cgroup leaves if less
  std::uint64_t total_bytes = 0;      // MemTotal, or the tightest cgroup limit if less
  bool limited_by_cgroup = false;     // available_bytes is the cgroup's
  int gpus = 0;                       // NVIDIA GPUs that the driver lists
  int threads = 1;                    // hardware threads this process may use
};

// Never fails: what cannot be read is 0.
HostProbe probe_host(const std::filesystem::path& root = "/");

enum class HardwareKind { kCpu, kGpu };

struct Hardware {
  HardwareKind kind = HardwareKind::kCpu;
  std::string name;                // "cpu", "h200x8"
  std::string label;               // "this machine's CPU", "8 x H200 141 GB"
  int devices = 1;                 // GPUs there are; 1 for a CPU
  std::uint64_t memory_bytes = 0;  // of one device
  int compute_capability = 0;      // 90: Hopper, 100: B200; 0: none
  bool estimated = false;          // a figure from a data sheet, not from this machine
  int threads = 0;                 // CPU only
  int unused_gpus = 0;             // CPU only: GPUs there are besides, which nothing here drives

  bool is_hopper() const { return compute_capability == 90; }
};

// Whether some backend of this version runs there. Where none does, a plan is an estimate.
bool has_backend(HardwareKind kind);

// "cpu", "auto", or a GPU and a count such as h100x8 (h100 means h100x1). "auto" is the CPU of this
// machine: this version has no other backend. Error(kUsage) names what would have been understood.
Hardware parse_hardware(std::string_view text, const HostProbe& host);

// A full host of each GPU this program knows, smallest memory first: where a model that does not
// fit might.
std::vector<Hardware> larger_hardware();

}  // namespace moeopt
