#include "text/jinja/runtime.h"

#include "base/error.h"

namespace moeopt::jinja {

void Runtime::fail_text(std::string_view message) const {
  throw_error(ErrorCode::kInvalidData, "{}:{}: {}", where_, line, message);
}

void Runtime::take_memory(std::size_t bytes) {
  if (bytes > limits_.memory_bytes || memory_ > limits_.memory_bytes - bytes) {
    fail("the template holds more than {} bytes of values", limits_.memory_bytes);
  }
  memory_ += bytes;
}

void Runtime::fail_steps() const {
  fail("the template took more than {} steps", limits_.steps);
}

void Runtime::fail_depth() const {
  fail("the template is nested deeper than {} calls and expressions", limits_.depth);
}

}  // namespace moeopt::jinja
