#include "base/cpu_features.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace moeopt {
namespace {

constexpr std::array<Isa, 5> kIsas = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16,
                                      Isa::kAmx};

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool bit(unsigned word, int index) {
  return ((word >> index) & 1u) != 0;
}

// XCR0: the register states that the operating system saves.
std::uint64_t enabled_states() {
  unsigned low = 0;
  unsigned high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

// Tile data is granted per process, on request (Linux Documentation/arch/x86/xstate.rst).
bool request_amx() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::string brand() {
  if (cpuid(0x80000000u).eax < 0x80000004u) return {};
  std::array<char, 49> text{};
  for (unsigned i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002u + i);
    std::memcpy(text.data() + 16 * std::size_t{i}, &r, 16);
  }
  const std::string_view all = text.data();
  const std::size_t first = all.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return std::string(all.substr(first, all.find_last_not_of(' ') - first + 1));
}

bool is_intel() {
  const Registers r = cpuid(0);
  std::array<char, 13> vendor{};
  std::memcpy(vendor.data(), &r.ebx, 4);
  std::memcpy(vendor.data() + 4, &r.edx, 4);
  std::memcpy(vendor.data() + 8, &r.ecx, 4);
  return std::string_view(vendor.data()) == "GenuineIntel";
}

CpuFeatures detect() {
  CpuFeatures features;
  features.brand = brand();
  const Registers one = cpuid(1);
  const bool os_saves = bit(one.ecx, 27);
  if (!os_saves) return features;
  const std::uint64_t states = enabled_states();
  const auto saves = [&](std::uint64_t mask) { return (states & mask) == mask; };
  constexpr std::uint64_t kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;

  const Registers seven = cpuid(7);
  const Registers seven_one = cpuid(7, 1);
  features.avx2 =
      saves(kYmm) && bit(seven.ebx, 5) && bit(one.ecx, 12) /* FMA */ && bit(one.ecx, 29) /* F16C */;
  features.avx512 = features.avx2 && saves(kZmm) && bit(seven.ebx, 16) /* F */ &&
                    bit(seven.ebx, 17) /* DQ */ && bit(seven.ebx, 30) /* BW */ &&
                    bit(seven.ebx, 31) /* VL */;
  features.avx512_bf16 = features.avx512 && bit(seven_one.eax, 5);
  features.slow_bf16_dots = features.avx512_bf16 && is_intel();
  features.amx_bf16 = features.avx512_bf16 && saves(kTiles) && bit(seven.edx, 22) /* BF16 */ &&
                      bit(seven.edx, 24) /* TILE */ && request_amx();
  return features;
}

#else

CpuFeatures detect() {
  return {};
}

#endif

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "";
}

std::optional<Isa> isa_from_name(std::string_view name) {
  for (const Isa isa : kIsas) {
    if (isa_name(isa) == name) return isa;
  }
  return std::nullopt;
}

bool CpuFeatures::has(Isa isa) const {
  switch (isa) {
    case Isa::kPortable:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512:
      return avx512;
    case Isa::kAvx512Bf16:
      return avx512_bf16;
    case Isa::kAmx:
      return amx_bf16;
  }
  return false;
}

Isa CpuFeatures::best() const {
  Isa best = Isa::kPortable;
  for (const Isa isa : kIsas) {
    if (has(isa) && !(isa == Isa::kAvx512Bf16 && slow_bf16_dots)) best = isa;
  }
  return best;
}

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::span<const Isa> supported_isas() {
  // Each set contains those before it, so the supported ones are a prefix.
  const auto end = std::ranges::find_if_not(kIsas, [](Isa isa) { return cpu_features().has(isa); });
  return {kIsas.begin(), end};
}

}  // namespace moeopt
