// Threads of the program's own, and what is said when the system gives no more of them.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "base/error.h"

namespace moeopt {

[[noreturn]] inline void throw_no_thread(std::string_view why) {
  throw Error(
      ErrorCode::kIo, fmt::format("cannot start a thread: {}", why),
      "raise the limit on processes (`ulimit -u`, or pids of the container), or lower --threads");
}

// A running std::thread. Error(kIo) when there is none to be had: whoever owns others already ends
// them before it lets that out.
template <typename Work>
std::thread start_thread(Work&& work) {
  try {
    return std::thread(std::forward<Work>(work));
  } catch (const std::system_error& error) {
    throw_no_thread(error.code().message());
  }
}

}  // namespace moeopt
