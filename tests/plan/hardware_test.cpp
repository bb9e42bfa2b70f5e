#include "plan/hardware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/plan_util.h"

namespace moeopt {
namespace {

using test::kGiB;
using test::TempFolder;
using test::thrown_by;
using testing::HasSubstr;

constexpr const char* kMeminfo =
    "MemTotal:       33554432 kB\nMemFree:         1048576 kB\nMemAvailable:   16777216 kB\n";

TEST(Hardware, NamesAGpuAndACount) {
  const Hardware one = parse_hardware("h100", {});
  EXPECT_EQ(one.kind, HardwareKind::kGpu);
  EXPECT_EQ(one.name, "h100x1");
  EXPECT_EQ(one.devices, 1);
  EXPECT_TRUE(one.is_hopper());
  EXPECT_TRUE(one.estimated);
  const Hardware eight = parse_hardware("H200x8", {});
  EXPECT_EQ(eight.name, "h200x8");
  EXPECT_EQ(eight.devices, 8);
  EXPECT_GT(eight.memory_bytes, 139 * kGiB);
  EXPECT_LT(eight.memory_bytes, 141 * kGiB);
  EXPECT_FALSE(parse_hardware("b200x8", {}).is_hopper());
}

TEST(Hardware, RefusesWhatItDoesNotKnow) {
  for (const char* text : {"", "h100x", "h100x0", "h100x9", "h100x-1", "h100x1x", "h100 x 2",
                           "h100x99999999999", "a100x8", "gpu", "h1000", "x8"}) {
    const auto thrown = thrown_by([&] { parse_hardware(text, {}); });
    EXPECT_EQ(thrown.code, ErrorCode::kUsage) << text;
    EXPECT_THAT(thrown.what, HasSubstr("is not auto, cpu, or h100, h200 or b200")) << text;
  }
  EXPECT_EQ(thrown_by([] { parse_hardware("h10x8", {}); }).hint, "did you mean h100x8?");
}

TEST(Hardware, AutoIsTheCpuAndSaysSoOfUnusedGpus) {
  HostProbe host;
  host.available_bytes = 3 * kGiB;
  host.gpus = 2;
  host.threads = 12;
  const Hardware hardware = parse_hardware("auto", host);
  EXPECT_EQ(hardware.kind, HardwareKind::kCpu);
  EXPECT_EQ(hardware.memory_bytes, 3 * kGiB);
  EXPECT_EQ(hardware.unused_gpus, 2);
  EXPECT_EQ(hardware.threads, 12);
  EXPECT_FALSE(hardware.estimated);
}

TEST(HostProbe, ReadsAvailableMemory) {
  const TempFolder root;
  root.write("proc/meminfo", kMeminfo);
  const HostProbe host = probe_host(root.path());
  EXPECT_EQ(host.total_bytes, 32 * kGiB);
  EXPECT_EQ(host.available_bytes, 16 * kGiB);
  EXPECT_FALSE(host.limited_by_cgroup);
  EXPECT_GE(host.threads, 1);
}

TEST(HostProbe, ACgroupOfVersionTwoNarrows) {
  const TempFolder root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "0::/a/b\n");
  root.write("sys/fs/cgroup/a/b/memory.max", "max\n");
  root.write("sys/fs/cgroup/a/memory.max", std::to_string(8 * kGiB) + "\n");
  root.write("sys/fs/cgroup/a/memory.current", std::to_string(5 * kGiB) + "\n");
  root.write("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file " + std::to_string(2 * kGiB) +
                                                "\nactive_file " + std::to_string(1 * kGiB) + "\n");
  const HostProbe host = probe_host(root.path());
  EXPECT_EQ(host.available_bytes, 6 * kGiB) << "8 less 5 in use, of which 3 are page cache";
  EXPECT_EQ(host.total_bytes, 8 * kGiB);
  EXPECT_TRUE(host.limited_by_cgroup);
}

TEST(HostProbe, ACgroupOfVersionOneNarrows) {
  const TempFolder root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1234\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", std::to_string(4 * kGiB) + "\n");
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", std::to_string(1 * kGiB) + "\n");
  const HostProbe host = probe_host(root.path());
  EXPECT_EQ(host.available_bytes, 3 * kGiB) << "the mount's root, as in a container";
}

TEST(HostProbe, AWiderCgroupChangesNothing) {
  const TempFolder root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "0::/\n");
  root.write("sys/fs/cgroup/memory.max", "9223372036854771712\n");
  EXPECT_EQ(probe_host(root.path()).available_bytes, 16 * kGiB);
}

TEST(HostProbe, NonsenseIsZeroNotAnError) {
  const TempFolder root;
  EXPECT_EQ(probe_host(root.path()).available_bytes, 0u);
  root.write("proc/meminfo", "MemAvailable: lots\n\n:::\n");
  root.write("proc/self/cgroup", "nonsense\n0::/../../etc\n::\n");
  EXPECT_EQ(probe_host(root.path()).available_bytes, 0u);
}

TEST(HostProbe, CountsTheDriversGpus) {
  const TempFolder root;
  root.write("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: x\n");
  root.write("proc/driver/nvidia/gpus/0000:02:00.0/information", "Model: x\n");
  EXPECT_EQ(probe_host(root.path()).gpus, 2);
}

}  // namespace
}  // namespace moeopt
