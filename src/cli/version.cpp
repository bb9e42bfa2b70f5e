#include "cli/version.h"

#include <fmt/format.h>

#include "base/cpu_features.h"
#include "moeopt_version.h"

namespace moeopt::cli {

std::string program_name() {
  return fmt::format("moeopt {} ({})", MOEOPT_VERSION, MOEOPT_COMMIT);
}

std::string version_text() {
  std::string isas;
  for (const Isa isa : supported_isas()) {
    if (!isas.empty()) isas += ", ";
    isas += isa_name(isa);
  }
#ifdef MOEOPT_CUDA
  constexpr const char* kCuda = "sm_90a";
#else
  constexpr const char* kCuda = "not in this build";
#endif
  return fmt::format("moeopt {} ({}, {})\ncpu:  {} (best of {})\ncuda: {}", MOEOPT_VERSION,
                     MOEOPT_COMMIT, MOEOPT_BUILD, isa_name(cpu_features().best()), isas, kCuda);
}

std::string version_number() {
  return MOEOPT_VERSION;
}

std::string version_commit() {
  return MOEOPT_COMMIT;
}

std::string version_build() {
  return MOEOPT_BUILD;
}

}  // namespace moeopt::cli
