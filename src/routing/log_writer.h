// RoutingLogWriter: the file side of a recording: a thread that writes whole requests.
// Any thread submits; one background thread formats and writes, so that whoever records never waits
// for a disk. Invariants: the file always holds whole records in whole requests, in the order of
// submission; bytes waiting never exceed the bound: a request that would is dropped and counted; an
// error of the disk ends the recording and nothing else.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "routing/log_format.h"
#include "routing/routing_log.h"

namespace moeopt {

struct LogWriterOptions {
  std::filesystem::path file;
  LogFormat format = LogFormat::kJsonl;
  std::size_t queue_bytes = std::size_t{256} << 20;     // of requests waiting to be written
  std::uint64_t rotate_bytes = std::uint64_t{4} << 30;  // then FILE.1, FILE.2, ...
};

class RoutingLogWriter {
 public:
  // Opens the file and writes the header; Error(kIo) when that fails.
  RoutingLogWriter(LogWriterOptions options, RoutingHeader header);
  RoutingLogWriter(const RoutingLogWriter&) = delete;
  RoutingLogWriter& operator=(const RoutingLogWriter&) = delete;
  ~RoutingLogWriter();  // as close()

  // Takes a finished request over, or drops it: then false. Never blocks on the disk.
  bool submit(RequestRoutes routes);
  // For requests that never reached submit().
  void count_dropped(std::uint64_t tokens);
  void count_unsampled();

  // Writes what waits, the totals, and closes. No submit() after it.
  void close();

  struct State {
    RoutingTotals totals;  // written, and dropped
    std::uint64_t bytes_written = 0;
    int parts = 1;
    std::string error;  // empty while all is well; then nothing more is written
  };
  State state() const;

 private:
  void work();
  bool has_enough() const;  // waits to be written at once; under mutex_
  void write_request(const RequestRoutes& routes);
  void open_part();
  void write_bytes(std::string_view bytes);  // all or, after an Error(kIo), none of them
  void cut_torn_record();
  std::filesystem::path part_path() const;

  const LogWriterOptions options_;
  RoutingHeader header_;
  std::unique_ptr<LogEncoder> encoder_;
  int descriptor_ = -1;  // the thread's, as are the next two
  std::uint64_t part_bytes_ = 0;
  std::uint64_t dropped_logged_ = 0;  // requests, as the file says so far

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<RequestRoutes> queue_;
  std::size_t queued_bytes_ = 0;
  State state_;
  bool closing_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace moeopt
