// model.safetensors.index.json: which shard holds which tensor.
// Invariant: every shard of a parsed index is the plain name of a .safetensors file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt {

inline constexpr std::size_t kMaxShards = 4096;

struct SafetensorsIndex {
  std::map<std::string, std::string, std::less<>> weight_map;  // tensor -> shard
  std::vector<std::string> shards;                             // sorted, each once
};

// Error(kInvalidData) naming `where` and the tensor.
SafetensorsIndex parse_safetensors_index(std::string_view text, std::string_view where);

SafetensorsIndex read_safetensors_index(const std::filesystem::path& file, std::string_view where);

}  // namespace moeopt
