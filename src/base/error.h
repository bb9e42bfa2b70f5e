// Errors that a user can cause, and the one mapping from them to exit codes.
// Invariant: every Error says what is wrong (file, tensor or field named) and, where there is one,
// what to do about it. A programmer's mistake is a MOEOPT_CHECK (check.h), never an Error.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace moeopt {

enum class ErrorCode {
  kUsage,        // a flag, argument or profile key is wrong
  kNotFound,     // a model, file or tensor is not there
  kInvalidData,  // a file exists but what it says is broken or hostile
  kUnsupported,  // understood, and not something this program runs
  kDoesNotFit,   // the plan needs more memory than there is
  kRequirement,  // --require-X and X is not applied
  kIo,           // the operating system refused (disk full, permission, ...)
  kOverloaded,   // the queue is full; later it may not be
  kUnavailable,  // shutting down
  kInternal,     // a bug of ours that was caught
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& what, std::string hint = {})
      : std::runtime_error(what), code_(code), hint_(std::move(hint)) {}

  ErrorCode code() const noexcept { return code_; }
  // What the user can do; empty when there is nothing to say.
  const std::string& hint() const noexcept { return hint_; }

 private:
  ErrorCode code_;
  std::string hint_;
};

// Process exit code: 2 usage, 3 does not fit, 4 requirement, 5 not found, 6 invalid data,
// 7 unsupported, 8 I/O, 69 unavailable, 70 internal, 75 overloaded. 0 and 1 keep their usual
// meaning (1: an answer of "no").
int exit_code(ErrorCode code);

template <typename... Args>
[[noreturn]] void throw_error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace moeopt
