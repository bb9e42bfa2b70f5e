// Builders of small checkpoints, right and wrong, in a folder that goes when the test ends.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/hub_cache.h"

namespace moeopt {

class TempFolder {
 public:
  TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder();

  const std::filesystem::path& path() const { return path_; }
  // Writes `text` to path() / name, making folders on the way; returns that path.
  std::filesystem::path write(const std::filesystem::path& name, std::string_view text) const;

 private:
  std::filesystem::path path_;
};

struct TestTensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string data;
};

// 8-byte length, `header`, `data`: whatever they say.
std::string raw_safetensors(std::string_view header, std::string_view data);
// The header that belongs to these tensors, laid out in order; padded to `header_multiple` bytes.
std::string safetensors_file(const std::vector<TestTensor>& tensors,
                             std::size_t header_multiple = 8);
std::string index_file(const std::map<std::string, std::string>& weight_map);
// Four bytes of float32 a value.
std::string f32_bytes(const std::vector<float>& values);

// An environment that has these variables alone.
EnvironmentLookup environment_of(std::map<std::string, std::string> variables);

}  // namespace moeopt
