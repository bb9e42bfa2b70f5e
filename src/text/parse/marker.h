// Markers in a text that comes in parts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace moeopt {

// The length of the longest end of `text` that is a beginning of `marker`, but not all of it.
inline std::size_t begun_marker_bytes(std::string_view text, std::string_view marker) {
  for (std::size_t n = std::min(text.size(), marker.size() - 1); n > 0; --n) {
    if (marker.starts_with(text.substr(text.size() - n))) return n;
  }
  return 0;
}

inline std::string_view without_white_space(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

}  // namespace moeopt
