#include "cuda/pack_reference_util.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace moeopt::cuda::moe::test {
namespace {

constexpr std::size_t kImageBytes = 16384;

struct Matrix {
  const std::byte* data;
  std::size_t rows, columns, stride;  // stride in elements
  const float* scale;
};

std::size_t round_up(std::size_t value, std::size_t to) {
  return (value + to - 1) / to * to;
}

// Where byte `byte` of row `row` of a matrix of `blocks` K blocks lies: tile, block, half, row,
// chunk.
std::size_t place(std::size_t blocks, std::size_t row, std::size_t byte) {
  const std::size_t tile = row / 128;
  const std::size_t block = byte / 128;
  const std::size_t half = row % 128 / 64;
  const std::size_t r = row % 64;
  const std::size_t chunk = byte % 128 / 16;
  return (tile * blocks + block) * kImageBytes + half * 8192 + r * 128 + (chunk ^ (r % 8)) * 16 +
         byte % 16;
}

float bf16_at(const std::byte* data, std::size_t index) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, data + 2 * index, 2);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// e4m3 values of a bf16 matrix, dense, and its scales.
struct Quantised {
  std::vector<std::byte> values;
  std::vector<float> scales;
};

Quantised quantise(const Matrix& matrix) {
  Quantised out{std::vector<std::byte>(matrix.rows * matrix.columns), {}};
  for (std::size_t top = 0; top < matrix.rows; top += 128) {
    for (std::size_t left = 0; left < matrix.columns; left += 128) {
      float largest = 1e-10f;
      for (std::size_t i = 0; i < 128 * 128; ++i) {
        const std::size_t at = (top + i / 128) * matrix.stride + left + i % 128;
        largest = std::max(largest, std::fabs(bf16_at(matrix.data, at)));
      }
      const float scale = largest / 448.0f;
      out.scales.push_back(scale);
      for (std::size_t i = 0; i < 128 * 128; ++i) {
        const std::size_t row = top + i / 128;
        const std::size_t column = left + i % 128;
        const float value = bf16_at(matrix.data, row * matrix.stride + column);
        out.values[row * matrix.columns + column] = std::byte{e4m3(value / scale)};
      }
    }
  }
  return out;
}

}  // namespace

std::uint8_t e4m3(float value) {
  if (std::isnan(value)) return 0x7f;
  const int sign = std::signbit(value) ? 0x80 : 0;
  const double magnitude = std::fabs(static_cast<double>(value));
  if (magnitude >= 448) return static_cast<std::uint8_t>(sign | 0x7e);
  const int exponent = magnitude < 0.015625 ? -6 : std::ilogb(magnitude);
  // In units of the last place: 8 .. 16 for a normal value, below 8 for a subnormal one.
  const int units = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 3 - exponent)));
  return static_cast<std::uint8_t>(sign | ((exponent + 6) * 8 + units));
}

std::vector<std::byte> pack_reference(int hidden, int intermediate, bool fp8,
                                      const moeopt_expert_source& source) {
  const auto h = static_cast<std::size_t>(hidden);
  const auto m = static_cast<std::size_t>(intermediate);
  const std::size_t element = fp8 ? 1 : 2;
  const std::size_t blocks1 = h * element / 128;
  const std::size_t blocks2 = m * element / 128;
  const std::size_t tiles1 = (2 * m + 127) / 128;
  const std::size_t tiles2 = (h + 127) / 128;
  const std::size_t second = tiles1 * blocks1 * kImageBytes;
  const std::size_t images_end = second + tiles2 * blocks2 * kImageBytes;
  // Scale tables: a row per tile, rows on 16 bytes, tables on 128.
  const std::size_t row1 = fp8 ? round_up(2 * blocks1 * 4, 16) : 0;
  const std::size_t row2 = fp8 ? round_up(blocks2 * 4, 16) : 0;
  const std::size_t table2 = round_up(images_end + tiles1 * row1, 128);
  std::vector<std::byte> packed(round_up(table2 + tiles2 * row2, 128));

  const void* const data[] = {source.gate, source.up, source.down};
  const std::int64_t strides[] = {source.gate_stride, source.up_stride, source.down_stride};
  const float* const scales[] = {source.gate_scale, source.up_scale, source.down_scale};
  for (std::size_t which = 0; which < 3; ++which) {
    const bool down = which == 2;
    const std::size_t columns = down ? m : h;
    Matrix matrix{static_cast<const std::byte*>(data[which]), down ? h : m, columns,
                  strides[which] == 0 ? columns : static_cast<std::size_t>(strides[which]),
                  scales[which]};
    Quantised quantised;
    if (source.source == MOEOPT_SOURCE_BF16_TO_FP8) {
      quantised = quantise(matrix);
      matrix = {quantised.values.data(), matrix.rows, columns, columns, quantised.scales.data()};
    }
    for (std::size_t row = 0; row < matrix.rows; ++row) {
      const std::size_t packed_row = down ? row : row / 8 * 16 + which * 8 + row % 8;
      for (std::size_t byte = 0; byte < columns * element; ++byte) {
        const std::size_t at =
            down ? second + place(blocks2, packed_row, byte) : place(blocks1, packed_row, byte);
        packed[at] = matrix.data[row * matrix.stride * element + byte];
      }
    }
    if (!fp8) continue;
    // One scale per 128 rows and 128 columns; a tile of the first matrix has 64 rows of gate and of
    // up.
    const std::size_t blocks = down ? blocks2 : blocks1;
    for (std::size_t tile = 0; tile < (down ? tiles2 : tiles1); ++tile) {
      const float* const from = matrix.scale + (down ? tile : tile / 2) * blocks;
      for (std::size_t block = 0; block < blocks; ++block) {
        const std::size_t at = down ? table2 + tile * row2 + block * 4
                                    : images_end + tile * row1 + (2 * block + which) * 4;
        std::memcpy(packed.data() + at, from + block, 4);
      }
    }
  }
  return packed;
}

}  // namespace moeopt::cuda::moe::test
