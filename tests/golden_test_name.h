// What a test is called whose parameter is a golden checkpoint's name: GoogleTest takes no '-'.
#pragma once

#include <algorithm>
#include <string>

namespace moeopt {

inline constexpr auto golden_test_name = [](const auto& golden) {
  std::string name = golden.param;
  std::ranges::replace(name, '-', '_');
  return name;
};

}  // namespace moeopt
