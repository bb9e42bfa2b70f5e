// What --version and doctor say about this build.
#pragma once

#include <string>

namespace moeopt::cli {

std::string version_text();

}  // namespace moeopt::cli
