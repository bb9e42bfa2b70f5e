// Conversions are held against formulas in double that share nothing with the code under test, over
// every value of the small types and every boundary between two of them.
#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string_view>
#include <vector>

namespace moeopt {
namespace {

// A binary format: sign, exponent and mantissa bits, and what its highest exponent means.
struct Format {
  int exponent_bits;
  int mantissa_bits;
  bool has_infinity;  // e4m3 has none: only the all-ones mantissa of the top exponent is a NaN

  int bits() const { return 1 + exponent_bits + mantissa_bits; }
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }

  double decode(std::uint32_t code) const {
    const std::uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
    const int exponent = static_cast<int>(code >> mantissa_bits & ((1u << exponent_bits) - 1));
    const double sign = code >> (bits() - 1) != 0 ? -1.0 : 1.0;
    const bool top = exponent == (1 << exponent_bits) - 1;
    if (top && has_infinity) return mantissa == 0 ? sign * INFINITY : NAN;
    if (top && mantissa == (1u << mantissa_bits) - 1) return NAN;
    const double unit = std::pow(2.0, -mantissa_bits);
    if (exponent == 0) return sign * mantissa * unit * std::pow(2.0, 1 - bias());
    return sign * (1.0 + mantissa * unit) * std::pow(2.0, exponent - bias());
  }
  // Every finite value from 0 up; the index is the code.
  std::vector<double> magnitudes() const {
    std::vector<double> values;
    for (std::uint32_t code = 0; std::isfinite(decode(code)); ++code) {
      values.push_back(decode(code));
    }
    return values;
  }
};

template <typename T>
struct Traits;
template <>
struct Traits<F16> {
  static constexpr Format kFormat{5, 10, true};
  static F16 encode(float value) { return to_f16(value); }
};
template <>
struct Traits<Bf16> {
  static constexpr Format kFormat{8, 7, true};
  static Bf16 encode(float value) { return to_bf16(value); }
};
template <>
struct Traits<F8E4M3> {
  static constexpr Format kFormat{4, 3, false};
  static F8E4M3 encode(float value) { return to_f8e4m3(value); }
};

template <typename T>
class SmallFloatTest : public testing::Test {
 protected:
  static constexpr Format kFormat = Traits<T>::kFormat;
  static constexpr std::uint32_t kSign = 1u
                                         << (1 + kFormat.exponent_bits + kFormat.mantissa_bits - 1);

  static T from_bits(std::uint32_t code) { return {static_cast<decltype(T::bits)>(code)}; }
  static std::uint32_t encode(float value) { return Traits<T>::encode(value).bits; }
  // What is beyond the largest finite value by half a step or more.
  static std::uint32_t overflow_code() {
    const auto largest = static_cast<std::uint32_t>(kFormat.magnitudes().size() - 1);
    return kFormat.has_infinity ? largest + 1 : largest;
  }
};

using SmallFloats = testing::Types<F16, Bf16, F8E4M3>;
TYPED_TEST_SUITE(SmallFloatTest, SmallFloats);

TYPED_TEST(SmallFloatTest, DecodesEveryCode) {
  for (std::uint32_t code = 0; code < 1u << this->kFormat.bits(); ++code) {
    const double expected = this->kFormat.decode(code);
    const float got = to_float(this->from_bits(code));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got)) << code;
    } else {
      ASSERT_EQ(got, expected) << code;
      ASSERT_EQ(std::signbit(got), std::signbit(expected)) << code;
    }
  }
}

TYPED_TEST(SmallFloatTest, EveryValueComesBack) {
  for (std::uint32_t code = 0; code < 1u << this->kFormat.bits(); ++code) {
    const std::uint32_t back = this->encode(to_float(this->from_bits(code)));
    if (std::isnan(this->kFormat.decode(code))) {
      ASSERT_TRUE(std::isnan(this->kFormat.decode(back))) << code;
    } else {
      ASSERT_EQ(back, code);
    }
  }
}

TYPED_TEST(SmallFloatTest, RoundsToNearestAndTiesToEven) {
  const std::vector<double> values = this->kFormat.magnitudes();
  for (std::uint32_t low = 0; low + 1 < values.size(); ++low) {
    const double middle = (values[low] + values[low + 1]) / 2;
    const auto tie = static_cast<float>(middle);
    ASSERT_EQ(tie, middle) << "the middle must be a float";
    const std::uint32_t even = low % 2 == 0 ? low : low + 1;
    for (const std::uint32_t sign : {0u, this->kSign}) {
      const float s = sign != 0 ? -1.0f : 1.0f;
      ASSERT_EQ(this->encode(s * tie), sign | even) << tie;
      ASSERT_EQ(this->encode(s * std::nextafter(tie, 0.0f)), sign | low) << tie;
      ASSERT_EQ(this->encode(s * std::nextafter(tie, INFINITY)), sign | (low + 1)) << tie;
    }
  }
}

TYPED_TEST(SmallFloatTest, LeavesTheRangeAsItsFormatSays) {
  const std::vector<double> values = this->kFormat.magnitudes();
  const double largest = values.back();
  const double step = largest - values[values.size() - 2];
  const auto edge = static_cast<float>(largest + step / 2);
  ASSERT_EQ(edge, largest + step / 2);
  const auto largest_code = static_cast<std::uint32_t>(values.size() - 1);
  EXPECT_EQ(this->encode(std::nextafter(edge, 0.0f)), largest_code);
  for (const float beyond :
       {edge, std::nextafter(edge, INFINITY), 2 * edge, std::numeric_limits<float>::max(),
        std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(this->encode(beyond), this->overflow_code()) << beyond;
    EXPECT_EQ(this->encode(-beyond), this->kSign | this->overflow_code()) << beyond;
  }
}

TYPED_TEST(SmallFloatTest, KeepsZeroesSignAndNan) {
  EXPECT_EQ(this->encode(0.0f), 0u);
  EXPECT_EQ(this->encode(-0.0f), this->kSign);
  for (const std::uint32_t nan :
       {0x7fc00000u, 0x7f800001u, 0x7fffffffu, 0xffc00000u, 0xff800001u}) {
    EXPECT_TRUE(std::isnan(this->kFormat.decode(this->encode(std::bit_cast<float>(nan))))) << nan;
  }
}

// Any float, held against a search for the nearest value.
TYPED_TEST(SmallFloatTest, TakesTheNearestOfAllValues) {
  const std::vector<double> values = this->kFormat.magnitudes();
  std::mt19937 random(20240229);
  for (int i = 0; i < 200'000; ++i) {
    // Half of them anywhere, half within the format's range.
    float value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (i % 2 == 0) {
      value = static_cast<float>(
          std::ldexp(1.0 + random() * 0x1p-32, -10 + static_cast<int>(random() % 20)));
    }
    if (!std::isfinite(value) || std::fabs(value) >= values.back()) continue;
    const double magnitude = std::fabs(static_cast<double>(value));
    const auto above = static_cast<std::size_t>(
        std::upper_bound(values.begin(), values.end(), magnitude) - values.begin());
    const double down = magnitude - values[above - 1];
    const double up = values[above] - magnitude;
    const std::size_t nearest =
        down < up || (down == up && (above - 1) % 2 == 0) ? above - 1 : above;
    ASSERT_EQ(this->encode(value),
              (std::signbit(value) ? this->kSign : 0u) | static_cast<std::uint32_t>(nearest))
        << value;
  }
}

TEST(F8E4M3, HasTheRangeOfTheOcpFormat) {
  EXPECT_EQ(to_float(F8E4M3{0x7e}), 448.0f);
  EXPECT_EQ(to_float(F8E4M3{0x01}), 0x1p-9f);
  EXPECT_EQ(to_float(F8E4M3{0x08}), 0x1p-6f);
  EXPECT_TRUE(std::isnan(to_float(F8E4M3{0x7f})));
  EXPECT_TRUE(std::isnan(to_float(F8E4M3{0xff})));
}

TEST(Bf16, RoundToBf16KeepsTheTopBits) {
  EXPECT_EQ(round_to_bf16(1.0f + 0x1p-8f), 1.0f);
  EXPECT_EQ(round_to_bf16(1.0f + 3 * 0x1p-8f), 1.0f + 2 * 0x1p-7f);
}

TEST(DType, NamesAndSizesBelongTogether) {
  struct Row {
    std::string_view safetensors;
    DType dtype;
    std::size_t bytes;
    std::string_view name;
  };
  const std::array<Row, 11> rows = {{{"F32", DType::kF32, 4, "f32"},
                                     {"F16", DType::kF16, 2, "f16"},
                                     {"BF16", DType::kBF16, 2, "bf16"},
                                     {"F8_E4M3", DType::kF8E4M3, 1, "fp8_e4m3"},
                                     {"F64", DType::kF64, 8, "f64"},
                                     {"I64", DType::kI64, 8, "i64"},
                                     {"I32", DType::kI32, 4, "i32"},
                                     {"I16", DType::kI16, 2, "i16"},
                                     {"I8", DType::kI8, 1, "i8"},
                                     {"U8", DType::kU8, 1, "u8"},
                                     {"BOOL", DType::kBool, 1, "bool"}}};
  for (const Row& row : rows) {
    EXPECT_EQ(dtype_from_safetensors(row.safetensors), row.dtype);
    EXPECT_EQ(dtype_bytes(row.dtype), row.bytes) << row.safetensors;
    EXPECT_EQ(dtype_name(row.dtype), row.name);
  }
  for (const char* unknown : {"", "bf16", "F8", "F8_E5M2", "BF16 ", "U32"}) {
    EXPECT_EQ(dtype_from_safetensors(unknown), std::nullopt) << unknown;
  }
}

TEST(DTypeDeathTest, ABrokenEnumIsAProgrammersMistake) {
  EXPECT_DEATH(dtype_bytes(static_cast<DType>(99)), "check failed");
}

}  // namespace
}  // namespace moeopt
