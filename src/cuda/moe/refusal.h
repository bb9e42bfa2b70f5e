// How the library says no: a status and one sentence that names the field and the limit it broke.
// Invariant: thrown on the host before anything is enqueued, and caught at the C ABI; never crosses
// it.
#pragma once

#include <stdexcept>
#include <string>

#include "moeopt.h"

namespace moeopt::cuda::moe {

class Refusal : public std::runtime_error {
 public:
  Refusal(moeopt_status status, const std::string& text)
      : std::runtime_error(text), status_(status) {}
  moeopt_status status() const { return status_; }

 private:
  moeopt_status status_;
};

// A null or misaligned pointer, a wrong struct_size, a value that never makes sense.
[[noreturn]] inline void refuse_argument(const std::string& text) {
  throw Refusal(MOEOPT_ERROR_ARGUMENT, text);
}
// A shape or device beyond what the kernel does.
[[noreturn]] inline void refuse_unsupported(const std::string& text) {
  throw Refusal(MOEOPT_ERROR_UNSUPPORTED, text);
}

}  // namespace moeopt::cuda::moe
