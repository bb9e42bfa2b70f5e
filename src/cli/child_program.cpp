#include "cli/child_program.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace moeopt::cli {

std::optional<int> run_child(const std::vector<std::string>& arguments) {
  std::vector<char*> raw;
  raw.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) raw.push_back(const_cast<char*>(argument.c_str()));
  raw.push_back(nullptr);
  pid_t child = 0;
  const int failed = ::posix_spawnp(&child, raw.front(), nullptr, nullptr, raw.data(), environ);
  if (failed == ENOENT || failed == EACCES) return std::nullopt;
  if (failed != 0) {
    throw_error(ErrorCode::kIo, "{}: cannot be started: {}", arguments.front(),
                std::strerror(failed));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) {
      throw_error(ErrorCode::kIo, "{}: {}", arguments.front(), std::strerror(errno));
    }
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace moeopt::cli
