// A safetensors file and a shard index made of any bytes: parsed into exactly what they promise, or
// refused with an Error; nothing else. An input is read in three ways: as a whole file; as the size
// of a file's data (8 bytes) and its header's JSON, so that mutations reach it; as an index.
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "checkpoint/folder_file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_index.h"

namespace moeopt {
namespace {

void check_header(std::span<const std::byte> start, std::uint64_t file_size_bytes) {
  SafetensorsHeader header;
  try {
    header = parse_safetensors_header(start, file_size_bytes, "fuzz");
  } catch (const Error&) {
    return;
  }
  std::uint64_t end = header.data_offset;
  for (const SafetensorsEntry& entry : header.tensors) {
    MOEOPT_CHECK(entry.offset == end);
    MOEOPT_CHECK(entry.name.size() <= kSafetensorsMaxNameBytes);
    MOEOPT_CHECK(static_cast<std::uint64_t>(entry.shape.elements()) * dtype_bytes(entry.dtype) ==
                 entry.size_bytes);
    end += entry.size_bytes;
  }
  MOEOPT_CHECK(end == file_size_bytes);
}

void check_index(std::string_view text) {
  SafetensorsIndex index;
  try {
    index = parse_safetensors_index(text, "fuzz");
  } catch (const Error&) {
    return;
  }
  MOEOPT_CHECK(!index.shards.empty());
  for (const std::string& shard : index.shards) MOEOPT_CHECK(is_plain_file_name(shard));
}

// `input`: 8 bytes for the size of the data, then JSON.
void check_header_alone(std::span<const std::byte> input) {
  std::uint64_t data_bytes = 0;
  std::memcpy(&data_bytes, input.data(), sizeof data_bytes);
  const std::uint64_t header_bytes = input.size() - sizeof data_bytes;
  std::vector<std::byte> start(input.begin(), input.end());
  std::memcpy(start.data(), &header_bytes, sizeof header_bytes);
  check_header(start, start.size() + (data_bytes >> 2));  // a file's size is below 2^63
}

}  // namespace
}  // namespace moeopt

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  moeopt::check_index({reinterpret_cast<const char*>(data), size});
  moeopt::check_header(input, size);
  if (size >= moeopt::kSafetensorsPrefixBytes) moeopt::check_header_alone(input);
  return 0;
}
