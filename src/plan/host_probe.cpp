// What /proc and /sys say about this machine. Files here are the kernel's, but a line that is not
// understood is skipped, never an error.
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <string>

#include "base/strings.h"
#include "plan/hardware.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> parse_number(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  return value;
}

// "NAME<separator> 123 ..." in `file`: 123.
std::optional<std::uint64_t> read_field(const fs::path& file, std::string_view name,
                                        char separator) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    const std::string_view text = line;
    if (text.size() > name.size() && text.starts_with(name) && text[name.size()] == separator) {
      return parse_number(text.substr(name.size() + 1));
    }
  }
  return std::nullopt;
}

// The only number in `file`; nullopt for "max" and for a file that is not there.
std::optional<std::uint64_t> read_number(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  if (!std::getline(stream, line)) return std::nullopt;
  return parse_number(line);
}

struct CgroupFiles {
  std::string_view limit, usage, inactive_file, active_file;
};
constexpr CgroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                   "total_inactive_file", "total_active_file"};
constexpr CgroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file", "active_file"};

// One control group narrows the probe: what its limit leaves, counting page cache as free.
void narrow(const fs::path& folder, const CgroupFiles& files, HostProbe& host) {
  const auto limit = read_number(folder / files.limit);
  if (!limit || *limit >= host.total_bytes) return;
  const std::uint64_t usage = read_number(folder / files.usage).value_or(0);
  const fs::path stat = folder / "memory.stat";
  const std::uint64_t cache = read_field(stat, files.inactive_file, ' ').value_or(0) +
                              read_field(stat, files.active_file, ' ').value_or(0);
  const std::uint64_t held = usage - std::min(usage, cache);
  const std::uint64_t left = *limit - std::min(*limit, held);
  host.total_bytes = *limit;
  if (left < host.available_bytes) {
    host.available_bytes = left;
    host.limited_by_cgroup = true;
  }
}

// The group named in /proc/self/cgroup and every group above it. In a container the name may be
// the host's, and only the mount's root is visible: it is read in any case.
void narrow_all(const fs::path& mount, std::string_view group, const CgroupFiles& files,
                HostProbe& host) {
  fs::path relative = fs::path(group).relative_path().lexically_normal();
  for (const fs::path& part : relative) {
    if (part == "..") return narrow(mount, files, host);
  }
  while (!relative.empty()) {
    narrow(mount / relative, files, host);
    relative = relative.parent_path();
  }
  narrow(mount, files, host);
}

int count_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

}  // namespace

HostProbe probe_host(const fs::path& root) {
  HostProbe host;
  const fs::path meminfo = root / "proc/meminfo";
  host.total_bytes = read_field(meminfo, "MemTotal", ':').value_or(0) * 1024;
  host.available_bytes = read_field(meminfo, "MemAvailable", ':').value_or(0) * 1024;

  const fs::path mount = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "0::/group" or "9:memory:/group"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view text = line;
    const std::string_view controllers = text.substr(first + 1, second - first - 1);
    const std::string_view group = text.substr(second + 1);
    if (controllers.empty()) {
      narrow_all(mount, group, kVersion2, host);
    } else if (std::ranges::count(split(controllers, ','), "memory") > 0) {
      narrow_all(mount / "memory", group, kVersion1, host);
    }
  }

  std::error_code error;
  for (fs::directory_iterator at(root / "proc/driver/nvidia/gpus", error), end; !error && at != end;
       at.increment(error)) {
    ++host.gpus;
  }
  host.threads = count_threads();
  return host;
}

}  // namespace moeopt
