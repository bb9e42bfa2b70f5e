#include "cli/npy.h"

#include <fmt/format.h>

#include <cstring>
#include <string>

#include "base/check.h"

namespace moeopt::cli {

std::vector<std::byte> npy_bytes(std::span<const float> values, std::size_t rows,
                                 std::size_t columns) {
  MOEOPT_CHECK(values.size() == rows * columns);
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  constexpr std::size_t kPrefix = 10;  // magic, version, length
  const std::size_t padding = 64 - (kPrefix + header.size() + 1) % 64;
  header += std::string(padding % 64, ' ') + "\n";
  std::string prefix("\x93NUMPY\x01\x00", 8);
  prefix += static_cast<char>(header.size() & 0xff);
  prefix += static_cast<char>(header.size() >> 8);
  std::vector<std::byte> bytes(prefix.size() + header.size() + values.size_bytes());
  std::memcpy(bytes.data(), prefix.data(), prefix.size());
  std::memcpy(bytes.data() + prefix.size(), header.data(), header.size());
  if (!values.empty()) {
    std::memcpy(bytes.data() + prefix.size() + header.size(), values.data(), values.size_bytes());
  }
  return bytes;
}

}  // namespace moeopt::cli
