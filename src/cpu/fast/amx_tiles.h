// The tile registers' shape and the order of memory around them. Included only by kernels_amx*.cpp.
// Invariant: all eight tiles are 16 rows of 64 bytes; what does not fill them is padded with zeros.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace moeopt::cpu::fast {
namespace {

inline constexpr std::size_t kTileBytes = 1024;

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The compiler does not know that tile loads and stores touch memory: it may neither delay a store
// past the one nor hoist a load above the other.
inline void memory_fence_for_tiles() {
  __asm__ volatile("" ::: "memory");
}

// Tiles are in use while one of these lives; released after, so that the kernel has less to save.
class TileScope {
 public:
  TileScope() {
    static constexpr TileConfig kConfig{};
    _tile_loadconfig(&kConfig);
  }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

}  // namespace
}  // namespace moeopt::cpu::fast
