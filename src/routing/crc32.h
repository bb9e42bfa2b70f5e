// CRC-32 as in zlib and PNG (polynomial 0xEDB88320, reflected), so that any language can check it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moeopt {

std::uint32_t crc32(std::span<const std::byte> bytes);

}  // namespace moeopt
