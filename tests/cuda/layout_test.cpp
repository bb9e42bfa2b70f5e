// The packed layout: nothing lost, nothing twice, contiguous where the kernel counts on it.
#include "cuda/moe/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace moeopt::cuda::moe {
namespace {

const ExpertLayout kLayouts[] = {{64, 64, 2},   {192, 64, 2},  {64, 320, 2},  {256, 192, 2},
                                 {128, 128, 1}, {384, 128, 1}, {128, 640, 1}, {896, 256, 1}};

TEST(Layout, EveryByteOfAStageImageIsHitOnce) {
  std::vector<int> hits(kStageBytes);
  for (int row = 0; row < kTileRows; ++row) {
    for (int byte = 0; byte < kBlockBytes; ++byte) {
      const int at = ExpertLayout::swizzled(row, byte);
      ASSERT_GE(at, 0);
      ASSERT_LT(at, kStageBytes);
      ++hits[static_cast<std::size_t>(at)];
    }
  }
  EXPECT_EQ(hits, std::vector<int>(kStageBytes, 1));
}

TEST(Layout, ChunksOfSixteenBytesMoveWithinTheirRowAsWgmmaReads) {
  EXPECT_EQ(ExpertLayout::swizzled(0, 0), 0);
  EXPECT_EQ(ExpertLayout::swizzled(0, 127), 127);
  EXPECT_EQ(ExpertLayout::swizzled(1, 0), 128 + 16);
  EXPECT_EQ(ExpertLayout::swizzled(1, 16), 128);
  EXPECT_EQ(ExpertLayout::swizzled(7, 3), 7 * 128 + 112 + 3);
  EXPECT_EQ(ExpertLayout::swizzled(8, 0), 8 * 128);
  EXPECT_EQ(ExpertLayout::swizzled(63, 127), 63 * 128 + 15);
  EXPECT_EQ(ExpertLayout::swizzled(64, 0), 8192);
  EXPECT_EQ(ExpertLayout::swizzled(127, 0), 8192 + 63 * 128 + 112);
}

// Every (matrix, row, byte) of an expert has a place of its own; the places left over are the rows
// beyond the second matrix.
TEST(Layout, EveryByteOfAnExpertHasItsPlace) {
  for (const ExpertLayout& layout : kLayouts) {
    SCOPED_TRACE(testing::Message() << layout.hidden << " x " << layout.intermediate << " of "
                                    << layout.element_bytes << " bytes");
    std::vector<int> hits(layout.bytes1() + layout.bytes2());
    const int row_bytes1 = layout.hidden * layout.element_bytes;
    std::vector<int> seen(static_cast<std::size_t>(2 * layout.intermediate));
    for (int row = 0; row < layout.tiles1() * kTileRows; ++row) {
      const ExpertLayout::Source source = ExpertLayout::source1(row);
      if (source.index >= layout.intermediate) continue;
      ++seen[static_cast<std::size_t>(source.index + (source.up ? layout.intermediate : 0))];
      for (int byte = 0; byte < row_bytes1; ++byte) {
        ++hits.at(layout.stage1(row / kTileRows, byte / kBlockBytes) +
                  static_cast<std::uint64_t>(
                      ExpertLayout::swizzled(row % kTileRows, byte % kBlockBytes)));
      }
    }
    EXPECT_EQ(seen, std::vector<int>(seen.size(), 1)) << "rows of gate and up";
    const int row_bytes2 = layout.intermediate * layout.element_bytes;
    for (int row = 0; row < layout.hidden; ++row) {
      for (int byte = 0; byte < row_bytes2; ++byte) {
        ++hits.at(layout.stage2(row / kTileRows, byte / kBlockBytes) +
                  static_cast<std::uint64_t>(
                      ExpertLayout::swizzled(row % kTileRows, byte % kBlockBytes)));
      }
    }
    const auto elements = static_cast<std::int64_t>(3) * layout.hidden * layout.intermediate;
    EXPECT_EQ(std::count(hits.begin(), hits.end(), 1), elements * layout.element_bytes);
    const std::int64_t beyond = layout.tiles2() * kTileRows - layout.hidden;
    EXPECT_EQ(std::count(hits.begin(), hits.end(), 0), beyond * row_bytes2);
  }
}

TEST(Layout, AGateAndItsUpAreEightRowsApart) {
  for (int row = 0; row < 4096; ++row) {
    const ExpertLayout::Source source = ExpertLayout::source1(row);
    if (source.up) continue;
    const ExpertLayout::Source partner = ExpertLayout::source1(row + 8);
    EXPECT_TRUE(partner.up);
    EXPECT_EQ(partner.index, source.index);
    EXPECT_EQ(source.index / 64, row / kTileRows) << "tile t makes columns 64t .. 64t + 63 of h";
  }
}

TEST(Layout, StageImagesFollowOneAnother) {
  for (const ExpertLayout& layout : kLayouts) {
    std::uint64_t next = 0;
    for (int tile = 0; tile < layout.tiles1(); ++tile) {
      for (int block = 0; block < layout.blocks1(); ++block, next += kStageBytes) {
        ASSERT_EQ(layout.stage1(tile, block), next);
      }
    }
    for (int tile = 0; tile < layout.tiles2(); ++tile) {
      for (int block = 0; block < layout.blocks2(); ++block, next += kStageBytes) {
        ASSERT_EQ(layout.stage2(tile, block), next);
      }
    }
    EXPECT_EQ(layout.scales1(0), next);
  }
}

TEST(Layout, ScaleRowsAreAlignedAndApart) {
  for (const ExpertLayout& layout : kLayouts) {
    if (layout.element_bytes != 1) {
      EXPECT_EQ(layout.bytes(), layout.bytes1() + layout.bytes2());
      continue;
    }
    const auto floats = [](int count) { return static_cast<std::uint64_t>(count) * 4; };
    std::uint64_t end = layout.bytes1() + layout.bytes2();
    EXPECT_EQ(layout.scales1(0) % 128, 0u);
    for (int tile = 0; tile < layout.tiles1(); ++tile) {
      ASSERT_GE(layout.scales1(tile), end);
      ASSERT_EQ(layout.scales1(tile) % 16, 0u);
      end = layout.scales1(tile) + floats(2 * layout.blocks1());
    }
    EXPECT_EQ(layout.scales2(0) % 128, 0u);
    for (int tile = 0; tile < layout.tiles2(); ++tile) {
      ASSERT_GE(layout.scales2(tile), end);
      ASSERT_EQ(layout.scales2(tile) % 16, 0u);
      end = layout.scales2(tile) + floats(layout.blocks2());
    }
    EXPECT_LE(end, layout.bytes());
    EXPECT_EQ(layout.bytes() % 128, 0u);
  }
}

TEST(Layout, SizesWorkedOutByHand) {
  // Qwen3-30B: 12 tiles x 32 blocks and 16 tiles x 12 blocks of 16 KB; no byte but the weights.
  EXPECT_EQ((ExpertLayout{2048, 768, 2}.bytes()), 576u * 16384u);
  EXPECT_EQ((ExpertLayout{2048, 768, 2}.bytes()), 3u * 2048u * 768u * 2u);
  // In fp8: 288 images, scales 12 x 2 x 16 and 16 x 8 (6, on 16 bytes) floats.
  EXPECT_EQ((ExpertLayout{2048, 768, 1}.bytes()), 288u * 16384u + 1536u + 512u);
  // 64 of 192 rows of down beyond: a tile of 2 blocks half empty.
  EXPECT_EQ((ExpertLayout{192, 128, 2}.bytes()), (2u * 3u + 2u * 2u) * 16384u);
}

TEST(Layout, TheLargestExpertNeeds64BitOffsets) {
  const ExpertLayout layout{16384, 32768, 2};
  EXPECT_EQ(layout.bytes(), std::uint64_t{3} * 16384 * 32768 * 2);
  EXPECT_EQ(layout.stage2(127, 511), layout.bytes() - kStageBytes);
  EXPECT_EQ(layout.stage2(0, 0), std::uint64_t{1} << 31);
}

}  // namespace
}  // namespace moeopt::cuda::moe
