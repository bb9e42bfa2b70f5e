#include "routing/crc32.h"

#include <array>
#include <cstring>

namespace moeopt {
namespace {

// tables[0] is the usual one; tables[k][b] is byte b followed by k zero bytes, for 8 bytes a round.
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t c = b;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1u) != 0 ? 0xEDB88320u : 0u);
    tables[0][b] = c;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t b = 0; b < 256; ++b) {
      const std::uint32_t before = tables[k - 1][b];
      tables[k][b] = (before >> 8) ^ tables[0][before & 0xffu];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes) {
  std::uint32_t c = 0xffffffffu;
  while (bytes.size() >= 8) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    std::memcpy(&low, bytes.data(), 4);
    std::memcpy(&high, bytes.data() + 4, 4);
    low ^= c;
    c = kTables[7][low & 0xffu] ^ kTables[6][(low >> 8) & 0xffu] ^ kTables[5][(low >> 16) & 0xffu] ^
        kTables[4][low >> 24] ^ kTables[3][high & 0xffu] ^ kTables[2][(high >> 8) & 0xffu] ^
        kTables[1][(high >> 16) & 0xffu] ^ kTables[0][high >> 24];
    bytes = bytes.subspan(8);
  }
  for (const std::byte b : bytes)
    c = (c >> 8) ^ kTables[0][(c ^ static_cast<std::uint32_t>(b)) & 0xffu];
  return c ^ 0xffffffffu;
}

}  // namespace moeopt
