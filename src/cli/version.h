// What --version and doctor say about this build.
#pragma once

#include <string>

namespace moeopt::cli {

std::string version_text();
std::string version_number();  // "0.1.0"
std::string version_commit();
std::string version_build();  // "Release"
std::string program_name();   // "moeopt 0.1.0 (COMMIT)"

}  // namespace moeopt::cli
