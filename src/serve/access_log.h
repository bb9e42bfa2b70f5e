// The log of requests: one line each, to standard error or a file. Never an answer, and a
// prompt only where the server was told to (--log-prompts).
// Invariant: a log that cannot be written (a full disk, a pipe that nobody reads) costs lines,
// which are counted, and nothing else: write() never waits for it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "serve/http/message.h"

namespace moeopt::serve {

enum class LogFormat { kText, kJson };

class AccessLog {
 public:
  // An empty path: standard error. Error(kIo) when the file cannot be opened.
  AccessLog(std::filesystem::path file, LogFormat format);
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;
  // Writes what still waits, for at most a second.
  ~AccessLog();

  void write(const RequestRecord& record);
  // The same file by name again, after it was moved away. The old one is kept when that fails.
  void reopen();
  std::uint64_t n_lost() const { return n_lost_; }

 private:
  static constexpr std::size_t kMostWaiting = 8192;  // lines

  void write_out();  // the thread

  const std::filesystem::path file_;
  const LogFormat format_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> waiting_;
  bool reopen_ = false;
  bool ending_ = false;
  bool ended_ = false;
  std::atomic<std::uint64_t> n_lost_{0};
  int descriptor_;  // the thread's, once it runs
  std::thread thread_;
};

// The line, with its end.
std::string log_line(const RequestRecord& record, LogFormat format, std::string_view time);

}  // namespace moeopt::serve
