// The header of one .safetensors file, checked: an 8-byte little-endian length n, n bytes of JSON,
// then the tensors' data. Reads nothing but the bytes it is given.
// Invariant: a parsed header describes the file exactly: the tensors lie one after the other from
// the end of the header to the end of the file, none overlaps, nothing is left over, and each is as
// long as its shape and dtype say. Whatever the bytes say, time and memory are linear in their
// size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace moeopt {

inline constexpr std::uint64_t kSafetensorsPrefixBytes = 8;
inline constexpr std::uint64_t kSafetensorsMaxHeaderBytes = 100'000'000;
inline constexpr std::size_t kSafetensorsMaxTensors = 1'000'000;
inline constexpr std::size_t kSafetensorsMaxNameBytes = 4096;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t offset = 0;  // from the start of the file, with no promise of alignment
  std::uint64_t size_bytes = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  // in file order
  std::map<std::string, std::string> metadata;
  std::uint64_t data_offset = 0;  // 8 + n
};

// 8 + n, from the first bytes of a file (at least 8, or all of a shorter file). Error(kInvalidData)
// when the header is too long or ends after the file; `where` (the file's name) opens the message.
std::uint64_t safetensors_header_end(std::span<const std::byte> first_bytes,
                                     std::uint64_t file_size_bytes, std::string_view where);

// `file_start` holds at least the whole header; `file_size_bytes` is that of the file, which need
// not be in memory. Error(kInvalidData) names the file and the tensor; a dtype that the format has
// and this program does not read is Error(kUnsupported).
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file_start,
                                           std::uint64_t file_size_bytes, std::string_view where);

}  // namespace moeopt
