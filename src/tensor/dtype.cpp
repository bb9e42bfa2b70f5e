#include "tensor/dtype.h"

#include <array>
#include <cmath>

#include "base/check.h"

namespace moeopt {
namespace {

struct DTypeRow {
  DType dtype;
  std::size_t bytes;
  std::string_view name;
  std::string_view safetensors;
};

constexpr std::array<DTypeRow, 11> kDTypes = {{
    {DType::kF32, 4, "f32", "F32"},
    {DType::kF16, 2, "f16", "F16"},
    {DType::kBF16, 2, "bf16", "BF16"},
    {DType::kF8E4M3, 1, "fp8_e4m3", "F8_E4M3"},
    {DType::kF64, 8, "f64", "F64"},
    {DType::kI64, 8, "i64", "I64"},
    {DType::kI32, 4, "i32", "I32"},
    {DType::kI16, 2, "i16", "I16"},
    {DType::kI8, 1, "i8", "I8"},
    {DType::kU8, 1, "u8", "U8"},
    {DType::kBool, 1, "bool", "BOOL"},
}};

const DTypeRow& row(DType dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  MOEOPT_CHECK(index < kDTypes.size());
  return kDTypes[index];
}

// Rounds |value| (finite) to a float with `mantissa_bits` and smallest exponent `min_exponent`,
// returned as an integer count of the format's smallest subnormal at that exponent.
struct Scaled {
  std::uint32_t mantissa;  // with the hidden bit, may carry to 2^(mantissa_bits + 1)
  int exponent;            // of the value's binade, >= min_exponent
};

Scaled round_magnitude(float magnitude, int mantissa_bits, int min_exponent) {
  int exponent = magnitude == 0.0f ? min_exponent : std::ilogb(magnitude);
  if (exponent < min_exponent) exponent = min_exponent;
  // Exact: scaling by a power of two; nearbyint uses the default mode, nearest-even.
  const float scaled = std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent));
  return {static_cast<std::uint32_t>(scaled), exponent};
}

}  // namespace

std::size_t dtype_bytes(DType dtype) {
  return row(dtype).bytes;
}

std::string_view dtype_name(DType dtype) {
  return row(dtype).name;
}

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const DTypeRow& candidate : kDTypes) {
    if (candidate.safetensors == name) return candidate.dtype;
  }
  return std::nullopt;
}

float to_float(F16 value) {
  const std::uint32_t sign = (value.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = value.bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

float to_float(F8E4M3 value) {
  const bool negative = (value.bits & 0x80u) != 0;
  const int exponent = (value.bits >> 3) & 0xf;
  const int mantissa = value.bits & 0x7;
  if (exponent == 15 && mantissa == 7)
    return std::bit_cast<float>(negative ? 0xffc00000u : 0x7fc00000u);
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return negative ? -magnitude : magnitude;
}

F8E4M3 to_f8e4m3(float value) {
  const auto sign = static_cast<std::uint8_t>(std::signbit(value) ? 0x80u : 0u);
  if (std::isnan(value)) return {static_cast<std::uint8_t>(sign | 0x7fu)};
  const float magnitude = std::fabs(value);
  if (magnitude >= 448.0f) return {static_cast<std::uint8_t>(sign | 0x7eu)};
  const Scaled rounded = round_magnitude(magnitude, 3, -6);
  const std::uint32_t bits =
      (static_cast<std::uint32_t>(rounded.exponent + 6) << 3) + rounded.mantissa;
  return {static_cast<std::uint8_t>(sign | bits)};
}

}  // namespace moeopt
