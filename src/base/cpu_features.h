// What this processor and its kernel let the program use, asked once.
// Invariant: a feature is reported only when the operating system saves its registers too, and for
// AMX only after the kernel has granted the tile data to this process.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace moeopt {

// Instruction sets that cpu/fast has tiles for. Each contains those before it.
enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// "portable", "avx2", "avx512", "avx512bf16", "amx".
std::string_view isa_name(Isa isa);
std::optional<Isa> isa_from_name(std::string_view name);

struct CpuFeatures {
  std::string brand;    // as the processor names itself; empty when it does not
  bool avx2 = false;    // with FMA and F16C
  bool avx512 = false;  // F, BW, VL, DQ
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  // tiles of bf16, granted
  // Bf16 dot products multiply at half the rate of float32 multiply-adds: measured on Intel's
  // Emerald Rapids, 87 against 179 GFLOP/s a core.
  bool slow_bf16_dots = false;

  bool has(Isa isa) const;
  Isa best() const;  // the fastest
};

// Detected at the first call; asks the kernel for AMX then. Any thread.
const CpuFeatures& cpu_features();

// Those of `cpu_features()`, in the order of Isa.
std::span<const Isa> supported_isas();

}  // namespace moeopt
