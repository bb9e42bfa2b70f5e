// Structs of the C ABI start with their size, so that a caller compiled against an older moeopt.h
// keeps working: fields it does not know read as zero. Invariant: no byte beyond struct_size is
// touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "cuda/moe/refusal.h"

namespace moeopt::cuda::moe {

// Size of each struct in the first release: what a caller must bring at least.
inline constexpr std::uint32_t kFirstDescBytes = 76;
inline constexpr std::uint32_t kFirstSizesBytes = 32;
inline constexpr std::uint32_t kFirstSourceBytes = 80;
inline constexpr std::uint32_t kFirstArgsBytes = 160;
static_assert(sizeof(moeopt_moe_desc) >= kFirstDescBytes);
static_assert(sizeof(moeopt_moe_sizes) >= kFirstSizesBytes);
static_assert(sizeof(moeopt_expert_source) >= kFirstSourceBytes);
static_assert(sizeof(moeopt_moe_args) >= kFirstArgsBytes);

template <typename Struct>
std::uint32_t checked_size(const Struct* given, std::uint32_t first_bytes, const char* name) {
  if (given == nullptr) refuse_argument(std::string(name) + " is null");
  const std::uint32_t bytes = given->struct_size;
  if (bytes < first_bytes || bytes > sizeof(Struct)) {
    refuse_argument(std::string(name) + ".struct_size is " + std::to_string(bytes) +
                    "; this library takes " + std::to_string(first_bytes) + " to " +
                    std::to_string(sizeof(Struct)) + " bytes");
  }
  return bytes;
}

// A copy with the fields that the caller does not know set to zero.
template <typename Struct>
Struct read_struct(const Struct* given, std::uint32_t first_bytes, const char* name) {
  const std::uint32_t bytes = checked_size(given, first_bytes, name);
  Struct whole{};
  std::memcpy(&whole, given, bytes);
  return whole;
}

// Fills what the caller knows of `whole`; its struct_size stays.
template <typename Struct>
void write_struct(Struct whole, Struct* out, std::uint32_t first_bytes, const char* name) {
  const std::uint32_t bytes = checked_size(out, first_bytes, name);
  whole.struct_size = bytes;
  std::memcpy(out, &whole, bytes);
}

}  // namespace moeopt::cuda::moe
