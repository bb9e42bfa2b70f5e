// Optimisations left out on purpose, for showing that a server then calls them declined: in builds
// with MOEOPT_BYPASS alone, told by the environment (MOEOPT_BYPASS=prefix-cache,fp8).
// Invariant: in every other build nothing is left out, and asking costs nothing.
#pragma once

#include <string_view>

#ifdef MOEOPT_BYPASS
#include <algorithm>

#include "base/environment.h"
#include "base/strings.h"
#endif

namespace moeopt {

#ifdef MOEOPT_BYPASS
inline bool is_bypassed(std::string_view optimisation) {
  const auto names = process_environment("MOEOPT_BYPASS");
  return names && std::ranges::count(split(*names, ','), optimisation) > 0;
}
#else
constexpr bool is_bypassed(std::string_view) {
  return false;
}
#endif

}  // namespace moeopt
