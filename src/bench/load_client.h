// Sends a workload to a server and records when what came back. One thread, one epoll loop, however
// many streams; docs/bench.md says what a stream costs it.
// Invariant: a time is taken before the bytes that it belongs to are looked at, and every request
// that was issued has exactly one record, answered or failed with its kind.
#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <string>

#include "bench/record.h"
#include "bench/url.h"
#include "bench/workload.h"

namespace moeopt::bench {

struct LoadProgress {
  int issued = 0, ended = 0, failed = 0, total = 0;
  std::int64_t text_events = 0;
  double elapsed_s = 0;
};

struct LoadOptions {
  Url url;
  std::string api_key;                         // empty: none is sent
  std::chrono::milliseconds timeout{600'000};  // of a request, from its start to its end
  Arrival arrival = Arrival::kConcurrency;
  double level = 1;
  std::function<void(const LoadProgress&)> on_progress;  // ten times a second
  std::function<bool()> is_interrupted;  // asked as often; true ends the run, with what there is
};

// Blocks until every request has ended. Failures of requests are in their records; Error(kNotFound)
// when the host has no address, Error(kDoesNotFit) when the process may not open enough sockets.
LoadRun run_load(std::span<const PlannedRequest> requests, const LoadOptions& options);

}  // namespace moeopt::bench
