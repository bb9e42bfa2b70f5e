#include "base/cpu_features.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace moeopt {
namespace {

TEST(CpuFeatures, NamesRoundTrip) {
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    ASSERT_FALSE(isa_name(isa).empty());
    EXPECT_EQ(isa_from_name(isa_name(isa)), isa);
  }
  EXPECT_EQ(isa_from_name("avx9"), std::nullopt);
  EXPECT_EQ(isa_from_name(""), std::nullopt);
}

TEST(CpuFeatures, SetsContainThoseBeforeThem) {
  const std::span<const Isa> supported = supported_isas();
  ASSERT_FALSE(supported.empty());
  EXPECT_EQ(supported.front(), Isa::kPortable);
  EXPECT_NE(std::ranges::find(supported, cpu_features().best()), supported.end());
  for (const Isa isa : supported) EXPECT_TRUE(cpu_features().has(isa)) << isa_name(isa);
  for (std::size_t i = 1; i < supported.size(); ++i) EXPECT_LT(supported[i - 1], supported[i]);
}

TEST(CpuFeatures, BestIsTheFastest) {
  CpuFeatures features;
  features.avx2 = true;
  EXPECT_EQ(features.best(), Isa::kAvx2);
  features.avx512 = true;
  EXPECT_EQ(features.best(), Isa::kAvx512);
  features.avx512_bf16 = true;
  EXPECT_EQ(features.best(), Isa::kAvx512Bf16);
  features.slow_bf16_dots = true;
  EXPECT_EQ(features.best(), Isa::kAvx512);
  features.amx_bf16 = true;
  EXPECT_EQ(features.best(), Isa::kAmx);
}

// The kernel's list of flags is made independently of ours.
TEST(CpuFeatures, AgreesWithTheKernel) {
  std::ifstream file("/proc/cpuinfo");
  std::string flags;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("flags")) {
      flags = line + " ";
      break;
    }
  }
  if (flags.empty()) GTEST_SKIP() << "no flags in /proc/cpuinfo";
  const auto has = [&](const std::string& flag) {
    return flags.find(" " + flag + " ") != std::string::npos;
  };
  const CpuFeatures& features = cpu_features();
  EXPECT_EQ(features.avx2, has("avx2") && has("fma") && has("f16c"));
  EXPECT_EQ(features.avx512_bf16, features.avx2 && has("avx512f") && has("avx512bw") &&
                                      has("avx512vl") && has("avx512dq") && has("avx512_bf16"));
  if (features.amx_bf16) {
    EXPECT_TRUE(has("amx_tile") && has("amx_bf16"));
  }
}

}  // namespace
}  // namespace moeopt
