#include "cpu/tensor_data_util.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace moeopt::cpu {
namespace {

// `value` to a binary format with `bits` mantissa bits and no exponent below `lowest`.
double round_mantissa(double value, int bits, int lowest) {
  std::uint64_t representation = 0;
  std::memcpy(&representation, &value, sizeof(value));
  const int exponent = std::max(static_cast<int>((representation >> 52) & 0x7ff) - 1023, lowest);
  // Adding 1.5 * 2^52 units leaves a whole number of units, rounded to even.
  const double shift = std::ldexp(1.5, exponent - bits + 52);
  return std::copysign((value + shift) - shift, value);
}

template <typename T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto* data = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), data, data + sizeof(T));
}

void append_bf16(std::vector<std::byte>& bytes, double value) {
  std::uint32_t bits = 0;
  const auto single = static_cast<float>(value);
  std::memcpy(&bits, &single, sizeof(bits));
  append(bytes, static_cast<std::uint16_t>(bits >> 16));
}

void append_f16(std::vector<std::byte>& bytes, double value) {
  const int sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  const int exponent = magnitude == 0 ? -14 : std::max(std::ilogb(magnitude), -14);
  const int mantissa = static_cast<int>(std::ldexp(magnitude, 10 - exponent));
  append(bytes, static_cast<std::uint16_t>(sign | (((exponent + 14) << 10) + mantissa)));
}

void append_e4m3(std::vector<std::byte>& bytes, double value) {
  const int sign = std::signbit(value) ? 0x80 : 0;
  const double magnitude = std::fabs(value);
  const int exponent = magnitude == 0 ? -6 : std::max(std::ilogb(magnitude), -6);
  const int mantissa = static_cast<int>(std::ldexp(magnitude, 3 - exponent));
  append(bytes, static_cast<std::uint8_t>(sign | (((exponent + 6) << 3) + mantissa)));
}

}  // namespace

double uniform(Rng& rng, double low, double high) {
  return low + (high - low) * static_cast<double>(rng() >> 11) * 0x1p-53;
}

// The sum of three uniforms of one draw: near enough to normal, and quick.
double normal(Rng& rng) {
  const std::uint64_t bits = rng();
  const auto part = [bits](int shift) { return static_cast<double>((bits >> shift) & 0x1fffff); };
  return 2 * ((part(0) + part(21) + part(42)) * 0x1p-21 - 1.5);
}

double to_bf16_value(double value) {
  return round_mantissa(value, 7, -126);
}

double to_e4m3_value(double value) {
  const double rounded = round_mantissa(value, 3, -6);
  return std::fabs(rounded) > 448 ? std::copysign(448, value) : rounded;
}

StoredMatrix random_matrix(Rng& rng, DType dtype, int out, int in, double spread,
                           std::size_t misalignment) {
  StoredMatrix stored;
  stored.out = out;
  stored.in = in;
  std::vector<std::byte> bytes;
  const int scale_columns = (in + 127) / 128;
  const int scale_rows = (out + 127) / 128;
  if (dtype == DType::kF8E4M3) {
    stored.scale_bytes = std::make_shared<std::vector<std::byte>>();
    for (int i = 0; i < scale_rows * scale_columns; ++i) {
      const double scale = static_cast<float>(spread / 100 * uniform(rng, 0.25, 4));
      stored.scales.push_back(scale);
      append(*stored.scale_bytes, static_cast<float>(scale));
    }
  }
  for (int row = 0; row < out; ++row) {
    for (int column = 0; column < in; ++column) {
      const double value = spread * normal(rng);
      double meaning = 0;
      switch (dtype) {
        case DType::kF32:
          meaning = static_cast<float>(value);
          append(bytes, static_cast<float>(value));
          break;
        case DType::kBF16:
          meaning = to_bf16_value(value);
          append_bf16(bytes, meaning);
          break;
        case DType::kF16:
          meaning = round_mantissa(value, 10, -14);
          append_f16(bytes, meaning);
          break;
        default: {
          const double code = to_e4m3_value(100 * normal(rng));
          append_e4m3(bytes, code);
          stored.codes.push_back(code);
          meaning =
              code *
              stored.scales[static_cast<std::size_t>(row / 128 * scale_columns + column / 128)];
        }
      }
      stored.values.push_back(meaning);
    }
  }
  stored.bytes = std::make_shared<std::vector<std::byte>>(bytes.size() + 64 + misalignment);
  auto* start = stored.bytes->data();
  start += (64 - reinterpret_cast<std::uintptr_t>(start) % 64) % 64 + misalignment;
  std::memcpy(start, bytes.data(), bytes.size());
  stored.matrix.weight = {dtype, Shape{out, in}, start};
  if (stored.scale_bytes) {
    stored.matrix.scale_inv = {DType::kF32, Shape{scale_rows, scale_columns},
                               stored.scale_bytes->data()};
  }
  return stored;
}

std::vector<float> random_rows(Rng& rng, std::size_t n, double spread, bool bf16) {
  std::vector<float> rows(n);
  for (float& value : rows) {
    const double drawn = spread * normal(rng);
    value = static_cast<float>(bf16 ? to_bf16_value(drawn) : drawn);
  }
  return rows;
}

double frobenius_error(std::span<const float> got, std::span<const double> wanted) {
  double error = 0, norm = 0;
  if (got.size() != wanted.size()) return std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
    error += (got[i] - wanted[i]) * (got[i] - wanted[i]);
    norm += wanted[i] * wanted[i];
  }
  return norm == 0 ? (error == 0 ? 0 : std::numeric_limits<double>::infinity())
                   : std::sqrt(error / norm);
}

}  // namespace moeopt::cpu
