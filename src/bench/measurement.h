// One measured run from the first question to the last figure.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "bench/load_client.h"
#include "bench/server_info.h"
#include "bench/summary.h"
#include "bench/workload.h"

namespace moeopt::bench {

struct MeasurementPlan {
  Url url;
  std::string api_key;
  std::string model;   // empty: the server's first
  int vocab_size = 0;  // above 0: prompts of ids below it
  WorkloadSpec workload;
  Slo slo;
  std::chrono::milliseconds timeout{600'000};
  std::function<void(const LoadProgress&)> on_progress;
  std::function<bool()> is_interrupted;
};

struct Measurement {
  std::string started;  // UTC, ISO 8601
  ServerInfo server;
  Workload workload;
  OrderedJson health_before, health_after;  // around the run, the warm-up not in it
  std::optional<Counters> counters;         // what the server's counters moved by in it
  LoadRun run;
  Summary summary;
};

// Asks the server about itself, warms it up, runs the workload. Failures of requests are in the
// figures; Error(kIo) when the server does not answer, or a warm-up request fails.
Measurement measure(const MeasurementPlan& plan);

// The states after the run, their launches those of the run alone.
std::vector<ServerOptimisation> optimisations_in_run(const Measurement& measurement);

}  // namespace moeopt::bench
