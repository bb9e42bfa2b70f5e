// The reference of the packing, held against layout.h's functions and the CPU's own e4m3.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "cuda/moe/layout.h"
#include "cuda/pack_reference_util.h"
#include "tensor/dtype.h"

namespace moeopt::cuda::moe::test {
namespace {

struct Shape {
  int hidden, intermediate;
};

std::vector<std::byte> random_bytes(std::size_t count, std::mt19937& random) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

float float_at(const std::vector<std::byte>& bytes, std::uint64_t offset) {
  float value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

// Byte (row, byte) of the first or the second matrix, by layout.h.
std::byte packed_byte(const ExpertLayout& layout, const std::vector<std::byte>& packed, bool first,
                      int row, int byte) {
  const int tile = row / kTileRows;
  const int block = byte / kBlockBytes;
  const std::uint64_t stage = first ? layout.stage1(tile, block) : layout.stage2(tile, block);
  return packed[stage + static_cast<std::uint64_t>(
                            ExpertLayout::swizzled(row % kTileRows, byte % kBlockBytes))];
}

TEST(PackReference, E4m3EqualsTheCpusEverywhere) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    for (const std::uint32_t low : {0x0000u, 0x0001u, 0x8000u, 0xffffu}) {
      const auto value = std::bit_cast<float>(bits << 16 | low);
      if (std::isnan(value)) {
        ASSERT_EQ(e4m3(value), 0x7f);
      } else {
        ASSERT_EQ(e4m3(value), to_f8e4m3(value).bits) << value;
      }
    }
  }
}

TEST(PackReference, ElementsLieWhereTheLayoutSays) {
  std::mt19937 random(20261121);
  for (const bool fp8 : {false, true}) {
    for (const Shape& shape : {Shape{128, 128}, Shape{384, 256}, Shape{192, 64}, Shape{64, 192}}) {
      if (fp8 && (shape.hidden % 128 != 0 || shape.intermediate % 128 != 0)) continue;
      const int element = fp8 ? 1 : 2;
      const ExpertLayout layout{shape.hidden, shape.intermediate, element};
      const int gap = 16;  // elements between rows that are not the matrix's
      const auto stride = [&](int columns) { return static_cast<std::size_t>(columns + gap); };
      const auto gate = random_bytes(
          static_cast<std::size_t>(shape.intermediate * element) * stride(shape.hidden), random);
      const auto up = random_bytes(gate.size(), random);
      const auto down = random_bytes(
          static_cast<std::size_t>(shape.hidden * element) * stride(shape.intermediate), random);
      const int scale_rows = shape.intermediate / 128;
      const int scale_columns = shape.hidden / 128;
      std::vector<float> scales[3];
      for (auto& table : scales) {
        for (int i = 0; i < scale_rows * scale_columns; ++i) {
          table.push_back(static_cast<float>(random() % 1000) / 16);
        }
      }
      moeopt_expert_source source{};
      source.source = fp8 ? MOEOPT_SOURCE_FP8 : MOEOPT_SOURCE_BF16;
      source.gate = gate.data();
      source.up = up.data();
      source.down = down.data();
      source.gate_stride = source.up_stride = shape.hidden + gap;
      source.down_stride = shape.intermediate + gap;
      source.gate_scale = scales[0].data();
      source.up_scale = scales[1].data();
      source.down_scale = scales[2].data();
      const auto packed = pack_reference(shape.hidden, shape.intermediate, fp8, source);
      ASSERT_EQ(packed.size(), layout.bytes());

      const auto source_byte = [&](const std::vector<std::byte>& matrix, int columns, int row,
                                   int byte) {
        return matrix[static_cast<std::size_t>(row) * stride(columns) *
                          static_cast<std::size_t>(element) +
                      static_cast<std::size_t>(byte)];
      };
      for (int row = 0; row < layout.tiles1() * kTileRows; ++row) {
        const ExpertLayout::Source from = ExpertLayout::source1(row);
        ASSERT_LT(from.index, shape.intermediate) << "2I is a multiple of 128";
        for (int byte = 0; byte < shape.hidden * element; ++byte) {
          ASSERT_EQ(packed_byte(layout, packed, true, row, byte),
                    source_byte(from.up ? up : gate, shape.hidden, from.index, byte));
        }
      }
      for (int row = 0; row < layout.tiles2() * kTileRows; ++row) {
        for (int byte = 0; byte < shape.intermediate * element; ++byte) {
          const std::byte wanted =
              row < shape.hidden ? source_byte(down, shape.intermediate, row, byte) : std::byte{0};
          ASSERT_EQ(packed_byte(layout, packed, false, row, byte), wanted);
        }
      }
      if (!fp8) continue;
      // The scale of weight (row, column) is that of its 128x128 block.
      for (int row = 0; row < shape.intermediate; ++row) {
        const int tile = row / 64;
        for (int block = 0; block < layout.blocks1(); ++block) {
          for (int which = 0; which < 2; ++which) {
            const auto at =
                layout.scales1(tile) + static_cast<std::uint64_t>(4 * (2 * block + which));
            ASSERT_EQ(float_at(packed, at),
                      scales[which][static_cast<std::size_t>(row / 128 * scale_columns + block)]);
          }
        }
      }
      for (int row = 0; row < shape.hidden; ++row) {
        for (int block = 0; block < layout.blocks2(); ++block) {
          ASSERT_EQ(
              float_at(packed, layout.scales2(row / 128) + static_cast<std::uint64_t>(4 * block)),
              scales[2][static_cast<std::size_t>(row / 128 * scale_rows + block)]);
        }
      }
    }
  }
}

// One loud weight per block: its scale and its code are known, and its neighbours' too.
TEST(PackReference, QuantisesPerBlock) {
  constexpr int kHidden = 256;
  constexpr int kIntermediate = 128;
  std::vector<std::uint16_t> gate(kIntermediate * kHidden, to_bf16(1.0f).bits);
  const std::vector<std::uint16_t> zeros(gate.size());
  gate[3 * kHidden + 5] = to_bf16(-896.0f).bits;   // block 0: scale 2, 1 becomes 0.5
  gate[3 * kHidden + 200] = to_bf16(112.0f).bits;  // block 1: scale 0.25, 1 becomes 4
  moeopt_expert_source source{};
  source.source = MOEOPT_SOURCE_BF16_TO_FP8;
  source.gate = gate.data();
  source.up = zeros.data();
  source.down = zeros.data();
  const auto packed = pack_reference(kHidden, kIntermediate, true, source);
  const ExpertLayout layout{kHidden, kIntermediate, 1};
  ASSERT_EQ(packed.size(), layout.bytes());
  for (int tile = 0; tile < 2; ++tile) {
    EXPECT_EQ(float_at(packed, layout.scales1(tile)), 2.0f);
    EXPECT_EQ(float_at(packed, layout.scales1(tile) + 4), 1e-10f / 448.0f) << "up, all zero";
    EXPECT_EQ(float_at(packed, layout.scales1(tile) + 8), 0.25f);
  }
  EXPECT_EQ(packed_byte(layout, packed, true, 3, 5), std::byte{0xfe});    // -448
  EXPECT_EQ(packed_byte(layout, packed, true, 3, 200), std::byte{0x7e});  // 448
  EXPECT_EQ(packed_byte(layout, packed, true, 3, 6), std::byte{to_f8e4m3(0.5f).bits});
  EXPECT_EQ(packed_byte(layout, packed, true, 2, 201), std::byte{to_f8e4m3(4.0f).bits});
  EXPECT_EQ(packed_byte(layout, packed, true, 8 + 3, 5), std::byte{0}) << "up";
}

}  // namespace
}  // namespace moeopt::cuda::moe::test
