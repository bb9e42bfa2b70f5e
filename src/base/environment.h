// The process's environment, as something that tests can replace.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace moeopt {

// Value of an environment variable; nullopt when it is not set.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string&)>;
std::optional<std::string> process_environment(const std::string& name);

}  // namespace moeopt
