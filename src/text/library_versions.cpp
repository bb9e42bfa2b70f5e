#include "text/library_versions.h"

#include <utf8proc.h>

#include <array>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

namespace moeopt {

std::string text_library_versions() {
  std::array<char, 64> pcre2{};
  pcre2_config(PCRE2_CONFIG_VERSION, pcre2.data());
  return fmt::format("pcre2 {}, utf8proc {}", pcre2.data(), utf8proc_version());
}

}  // namespace moeopt
