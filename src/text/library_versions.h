// Versions of the libraries that text/ is built on, for doctor.
#pragma once

#include <string>

namespace moeopt {

// "pcre2 10.42 2022-12-11, utf8proc 2.8.0"
std::string text_library_versions();

}  // namespace moeopt
