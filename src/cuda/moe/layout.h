// How a packed expert lies in memory. Owned here: the one definition that packing, the kernel and
// the tests share. Pure arithmetic, host and device, no CUDA header. Invariant: a *stage image* is
// 16 KB, contiguous, and byte for byte what the kernel wants in shared memory, so that one bulk
// copy moves it; an expert is one contiguous unit without addresses.
//
// A matrix [rows, cols] is cut into row tiles of 128 rows and K blocks of 128 bytes (64 bf16 or 128
// e4m3 columns). Stage image (tile, block): two halves of 64 rows x 128 bytes, each in the 128-byte
// swizzle that wgmma reads: the 16-byte chunk c of row r of a half lies at r * 128 + ((c ^ (r & 7))
// * 16). Rows beyond the matrix are zero. An expert: [first matrix: gate and up interleaved][second
// matrix: down][scales, fp8 only].
//   stage images in the order tile, block: tile t's blocks follow one another.
// Interleaving: of 16 consecutive rows of the first matrix, the first 8 are gate rows 8j .. 8j+7
// and the other 8 the up rows of the same numbers, so that one thread of a wgmma fragment (rows r
// and r + 8) holds a gate and its up. Tile t therefore makes h columns 64t .. 64t + 63. Scales,
// float32: first matrix [tile][blocks][2: gate, up], second [tile][blocks]; each table starts on
// 128 bytes.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MOEOPT_HOST_DEVICE __host__ __device__
#else
#define MOEOPT_HOST_DEVICE
#endif

namespace moeopt::cuda::moe {

inline constexpr int kTileRows = 128;
inline constexpr int kBlockBytes = 128;  // of K, per row
inline constexpr int kHalfRows = 64;
inline constexpr int kHalfBytes = kHalfRows * kBlockBytes;
inline constexpr int kStageBytes = 2 * kHalfBytes;

MOEOPT_HOST_DEVICE constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t to) {
  return (value + to - 1) / to * to;
}
MOEOPT_HOST_DEVICE constexpr int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// Floats from one token's logits to the next: the experts', then the shared gate's, to 16 bytes.
MOEOPT_HOST_DEVICE constexpr int logits_stride(int experts) {
  return (experts + 4) / 4 * 4;
}

// h of the tiles with images (Tile::kImages): a token tile's rows, rounded up to 8, are stage
// images of that many rows x 128 bytes in the swizzle below, one after the other along K; fp8
// scales lie likewise, block by block. Tiles start on 8 rows, so that h has up to 8 rows an expert
// more.
inline constexpr int kImageRows = 8;
MOEOPT_HOST_DEVICE constexpr int image_rows(int rows) {
  return (rows + kImageRows - 1) / kImageRows * kImageRows;
}
// What unit 0 of a first GEMM adds to the count of finished units besides 1: from then on the
// token tile's x lies gathered in images.
inline constexpr std::uint32_t kGathered = 1u << 16;
// The first row of h of a slot before which lie `rows_before` rows of work.
MOEOPT_HOST_DEVICE constexpr int image_row(int rows_before, int slot) {
  return image_rows(rows_before) + kImageRows * slot;
}

struct ExpertLayout {
  int hidden;
  int intermediate;
  int element_bytes;  // 2: bf16, 1: e4m3

  MOEOPT_HOST_DEVICE constexpr int tiles1() const { return ceil_div(2 * intermediate, kTileRows); }
  MOEOPT_HOST_DEVICE constexpr int tiles2() const { return ceil_div(hidden, kTileRows); }
  MOEOPT_HOST_DEVICE constexpr int blocks1() const { return hidden * element_bytes / kBlockBytes; }
  MOEOPT_HOST_DEVICE constexpr int blocks2() const {
    return intermediate * element_bytes / kBlockBytes;
  }
  MOEOPT_HOST_DEVICE constexpr std::uint64_t bytes1() const {
    return std::uint64_t{1} * tiles1() * blocks1() * kStageBytes;
  }
  MOEOPT_HOST_DEVICE constexpr std::uint64_t bytes2() const {
    return std::uint64_t{1} * tiles2() * blocks2() * kStageBytes;
  }
  // Offset of a stage image.
  MOEOPT_HOST_DEVICE constexpr std::uint64_t stage1(int tile, int block) const {
    return (std::uint64_t{1} * tile * blocks1() + block) * kStageBytes;
  }
  MOEOPT_HOST_DEVICE constexpr std::uint64_t stage2(int tile, int block) const {
    return bytes1() + (std::uint64_t{1} * tile * blocks2() + block) * kStageBytes;
  }
  // Offsets of a tile's scales: [blocks1][2] and [blocks2] floats, each padded to 16 bytes.
  MOEOPT_HOST_DEVICE constexpr int scale1_stride() const {
    return element_bytes == 1 ? static_cast<int>(align_up(std::uint64_t{8} * blocks1(), 16)) : 0;
  }
  MOEOPT_HOST_DEVICE constexpr int scale2_stride() const {
    return element_bytes == 1 ? static_cast<int>(align_up(std::uint64_t{4} * blocks2(), 16)) : 0;
  }
  MOEOPT_HOST_DEVICE constexpr std::uint64_t scales1(int tile) const {
    return bytes1() + bytes2() + std::uint64_t{1} * tile * scale1_stride();
  }
  MOEOPT_HOST_DEVICE constexpr std::uint64_t scales2(int tile) const {
    return align_up(scales1(tiles1()), 128) + std::uint64_t{1} * tile * scale2_stride();
  }
  MOEOPT_HOST_DEVICE constexpr std::uint64_t bytes() const {
    return align_up(scales2(tiles2()), 128);
  }

  // Byte of (row of the 128-row tile, byte of the K block) within a stage image.
  MOEOPT_HOST_DEVICE static constexpr int swizzled(int row, int byte) {
    const int half = row / kHalfRows;
    const int r = row % kHalfRows;
    return half * kHalfBytes + r * kBlockBytes + (((byte / 16) ^ (r & 7)) * 16) + byte % 16;
  }
  // Row p of the first matrix: of the gate (up = false) or the up matrix, row `index`.
  struct Source {
    bool up;
    int index;
  };
  MOEOPT_HOST_DEVICE static constexpr Source source1(int p) {
    return {p % 16 >= 8, p / 16 * 8 + p % 8};
  }
};

}  // namespace moeopt::cuda::moe
