// Settings files: any bytes give entries or an Error, in bounded time and memory.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "plan/yaml_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto entries = moeopt::parse_yaml_settings(
        std::string_view(reinterpret_cast<const char*>(data), size), "fuzz.yaml");
    for (const moeopt::YamlEntry& entry : entries) {
      if (entry.line < 1) __builtin_trap();
    }
  } catch (const moeopt::Error&) {
  }
  return 0;
}
