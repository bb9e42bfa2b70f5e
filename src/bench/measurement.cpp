#include "bench/measurement.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <thread>

#include "base/error.h"

namespace moeopt::bench {
namespace {

std::string now_text() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

// The counters when the server has counted all of its tokens: the last event of a stream may reach
// the client a moment before the counter moves. What stands still for two looks has settled.
std::optional<Counters> settled_counters(const MeasurementPlan& plan) {
  std::optional<Counters> counters = ask_counters(plan.url, plan.api_key);
  for (int look = 0; counters && look < 20; ++look) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::optional<Counters> again = ask_counters(plan.url, plan.api_key);
    const bool has_settled = again && counter_ending(*again, "generation_tokens_total") ==
                                          counter_ending(*counters, "generation_tokens_total");
    counters = std::move(again);
    if (has_settled) break;
  }
  return counters;
}

}  // namespace

Measurement measure(const MeasurementPlan& plan) {
  Measurement measurement;
  measurement.server = ask_server(plan.url, plan.api_key, plan.model, plan.vocab_size);
  measurement.workload =
      make_workload(plan.workload, measurement.server.prompts, measurement.server.model);

  LoadOptions options;
  options.url = plan.url;
  options.api_key = plan.api_key;
  options.timeout = plan.timeout;
  options.is_interrupted = plan.is_interrupted;
  if (!measurement.workload.warmup.empty()) {
    for (const RequestRecord& record : run_load(measurement.workload.warmup, options).records) {
      if (record.ok()) continue;
      throw Error(ErrorCode::kIo, fmt::format("the warm-up request failed: {}: {}", record.error,
                                              record.error_text));
    }
  }

  measurement.health_before = ask_health(plan.url, plan.api_key);
  const std::optional<Counters> before = settled_counters(plan);
  options.arrival = plan.workload.arrival;
  options.level = plan.workload.level;
  options.on_progress = plan.on_progress;
  measurement.started = now_text();
  measurement.run = run_load(measurement.workload.requests, options);
  measurement.summary = summarise(measurement.run, plan.slo);
  try {
    const std::optional<Counters> after = settled_counters(plan);
    if (before && after) measurement.counters = counters_moved(*before, *after);
    measurement.health_after = ask_health(plan.url, plan.api_key);
  } catch (const Error&) {  // the server went away under the load: the records say so
    measurement.health_after = nullptr;
  }
  return measurement;
}

std::vector<ServerOptimisation> optimisations_in_run(const Measurement& measurement) {
  std::vector<ServerOptimisation> states = server_optimisations(measurement.health_after);
  for (ServerOptimisation& state : states) {
    for (const ServerOptimisation& before : server_optimisations(measurement.health_before)) {
      if (before.name == state.name) state.launches -= before.launches;
    }
  }
  return states;
}

}  // namespace moeopt::bench
