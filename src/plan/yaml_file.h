// The one YAML entry: a settings file as flat lines. It is a mapping of scalars, with mappings of
// scalars one level below; nothing else of YAML is understood.
// Invariant: bounded in bytes, depth and entries before anything is kept; anchors, aliases, tags,
// sequences, duplicate keys and second documents are refused, so nothing can expand.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt {

struct YamlEntry {
  std::string section;  // "optimisations" for `optimisations: {fp8: prefer}`; else empty
  std::string key;
  std::string text;  // never empty unless it was quoted so
  int line = 0;      // from 1
};

struct YamlLimits {
  std::size_t bytes = std::size_t{64} << 10;
  std::size_t entries = 1000;
};

// In the file's order. Error(kInvalidData) opens with "`where`:LINE: ".
std::vector<YamlEntry> parse_yaml_settings(std::string_view text, std::string_view where,
                                           const YamlLimits& limits = {});

}  // namespace moeopt
