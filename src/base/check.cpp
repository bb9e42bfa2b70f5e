#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace moeopt::detail {

void check_failed(const char* file, int line, const char* expression, const std::string& operands) {
  fmt::print(stderr, "{}:{}: check failed: {} (was: {})\n", file, line, expression, operands);
  std::fflush(stderr);
  std::abort();
}

}  // namespace moeopt::detail
