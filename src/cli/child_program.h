// Starting another program and waiting for its end.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace moeopt::cli {

// Runs `arguments` (the first is the program: a path, or a name on the PATH) with this program's
// standard streams; its exit code, 128 and the signal when one ended it. nullopt: there is no such
// program. Error(kIo) when the system starts none.
std::optional<int> run_child(const std::vector<std::string>& arguments);

}  // namespace moeopt::cli
