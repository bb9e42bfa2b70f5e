// A server that the benchmark starts for itself, and ends.
// Invariant: the process is gone when the object is: asked to end first, killed after a while.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "bench/url.h"

namespace moeopt::bench {

// A TCP port of 127.0.0.1 that nothing listens on now. Error(kIo).
int free_port();

class ServerProcess {
 public:
  // Starts `command` (a program and its arguments); its output goes to `log`. Error(kIo).
  ServerProcess(const std::vector<std::string>& command, std::filesystem::path log);
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;
  ~ServerProcess();

  // Returns when GET /ready says 200 (or, where there is no such page, /v1/models does). Error(kIo)
  // with the end of the log when the process ends before or `limit` has passed.
  void wait_until_ready(const Url& url, std::chrono::milliseconds limit,
                        const std::function<bool()>& is_interrupted);

  // SIGTERM, then SIGKILL after `patience`. Nothing when it has ended.
  void stop(std::chrono::milliseconds patience = std::chrono::seconds(20));

 private:
  bool has_ended();
  std::string log_tail() const;

  pid_t pid_ = -1;
  std::filesystem::path log_;
};

}  // namespace moeopt::bench
