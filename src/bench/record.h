// What the client saw of each request, and what the client itself cost.
// Invariant: times are microseconds since the run's start, taken on one monotonic clock when the
// bytes were handed to the program; 0 <= start <= first text <= last text <= end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moeopt::bench {

struct RequestRecord {
  // From here the request's time counts: when it was due (--rate), else when it was issued. The
  // connection is opened after it where none is free.
  std::int64_t start_us = 0;
  std::int64_t sent_us = -1;        // its last byte was written; -1: never
  std::int64_t first_text_us = -1;  // the first event with text; -1: none
  std::int64_t last_text_us = -1;
  std::int64_t end_us = 0;  // "[DONE]" or the end of the stream, or the failure

  std::vector<std::uint32_t> gaps_us;  // between successive events with text
  int text_events = 0;

  bool has_usage = false;  // the server counted the tokens
  int prompt_tokens = 0, cached_tokens = 0;
  int output_tokens = 0;  // without usage: text_events
  std::string finish_reason;

  // "" when it was answered; else one of: connect, closed, malformed, timeout, server,
  // interrupted, or "http 429" with the status.
  std::string error;
  std::string error_text;

  bool ok() const { return error.empty(); }
  double ttft_ms() const { return static_cast<double>(first_text_us - start_us) / 1000.0; }
  double e2e_ms() const { return static_cast<double>(end_us - start_us) / 1000.0; }
  // The time of a token after the first, on average; below 0 when there is no second one.
  double token_ms() const {
    if (first_text_us < 0 || output_tokens < 2) return -1;
    return static_cast<double>(last_text_us - first_text_us) / 1000.0 / (output_tokens - 1);
  }
};

// The client's own part in what was measured.
struct ClientCost {
  double cpu_s = 0;   // of the one thread that does everything
  double wall_s = 0;  // of the same span
  std::uint64_t events = 0;
  // How late a timer of the event loop fired that was set every 10 ms: what else was done then
  // came later by as much.
  double lag_p99_ms = 0, lag_max_ms = 0;

  double share() const { return wall_s > 0 ? cpu_s / wall_s : 0; }
};

struct LoadRun {
  std::vector<RequestRecord> records;  // in the workload's order; those never issued are left out
  double duration_s = 0;               // from the start to the end of the last request
  ClientCost client;
  bool interrupted = false;
};

}  // namespace moeopt::bench
