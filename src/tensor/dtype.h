// Element types as stored, and their conversions to and from float.
// Invariant: conversions round to nearest, ties to even; NaN stays NaN. e4m3 is OCP's E4M3 ("fn"):
// no infinity, largest finite 448, and conversion to it saturates.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace moeopt {

enum class DType : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF64,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool
};

std::size_t dtype_bytes(DType dtype);
// "bf16", as printed.
std::string_view dtype_name(DType dtype);
// "BF16", as safetensors spells it; nullopt for a name this program does not know.
std::optional<DType> dtype_from_safetensors(std::string_view name);

struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};
struct F8E4M3 {
  std::uint8_t bits;
};

inline float to_float(float value) {
  return value;
}

inline float to_float(Bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

inline Bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};  // quiet, and never an infinity
  }
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

inline float round_to_bf16(float value) {
  return to_float(to_bf16(value));
}

float to_float(F16 value);

// Without branches, so that a loop over many becomes vectors.
inline F16 to_f16(float value) {
  constexpr std::uint32_t kInfinity = 0x7f800000u;
  constexpr std::uint32_t kTooLarge = 0x477ff000u;  // 65520, half way to 2^16: rounds to infinity
  constexpr std::uint32_t kSmallestNormal = 0x38800000u;  // 2^-14
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t whole = bits & 0x7fffffffu;
  const std::uint32_t magnitude = std::min(whole, kTooLarge);
  // A float in [0.5, 1) counts in units of 2^-24, the format's smallest: the sum rounds to them.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  // To the nearest, halves to even; a mantissa that rounds up carries into the exponent, whose
  // bias then goes from 127 to 15.
  const std::uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13;
  const std::uint32_t is_normal = 0u - static_cast<std::uint32_t>(magnitude >= kSmallestNormal);
  const std::uint32_t rounded = (normal & is_normal) | (subnormal & ~is_normal);
  const std::uint32_t nan = static_cast<std::uint32_t>(whole > kInfinity) << 9;
  return {static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | rounded | nan)};
}

float to_float(F8E4M3 value);
F8E4M3 to_f8e4m3(float value);

}  // namespace moeopt
