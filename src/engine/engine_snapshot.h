// What an engine says about itself at one moment: counters, gauges, expert counts. Plain data.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "backend/backend.h"
#include "routing/expert_counts.h"

namespace moeopt {

// Since construction, without the start-up step.
struct EngineCounters {
  std::uint64_t steps = 0;
  std::uint64_t failed_steps = 0;    // the backend threw
  std::uint64_t prompt_tokens = 0;   // of admitted requests, cached ones included
  std::uint64_t output_tokens = 0;   // delivered to sinks
  std::uint64_t prefill_tokens = 0;  // computed in prefill, recomputation included
  std::uint64_t prefill_chunks = 0;  // of prompts that did not fit one step
  std::uint64_t preemptions = 0;
  std::uint64_t prefix_queries_tokens = 0;  // prompt tokens looked up in the prefix cache
  std::uint64_t prefix_hits_tokens = 0;     // of them, found
  std::uint64_t shared_prompt_tokens = 0;   // that choices took over from their first choice
  std::uint64_t finished_stop = 0;          // choices, by how they ended
  std::uint64_t finished_length = 0;
  std::uint64_t finished_cancelled = 0;
  std::uint64_t finished_timeout = 0;
  std::uint64_t finished_error = 0;
};

// Durations of steps, from launch or the end of the step before, to their results.
struct StepTimeHistogram {
  // Upper bounds of the buckets, milliseconds; the last bucket of `counts` has none.
  static constexpr std::array<double, 14> kUpperMs = {1,  2,   5,   10,  20,  35,   50,
                                                      75, 100, 150, 250, 500, 1000, 2500};
  std::array<std::uint64_t, kUpperMs.size() + 1> counts{};  // not cumulative
  double sum_ms = 0;

  void add(double ms);
};

enum class ServiceState {
  kServing,
  kFailing,   // the last steps all failed; it still accepts, and serves again after a good step
  kStuck,     // a step (or a sink) has not returned for longer than stuck_after
  kDraining,  // refuses new requests, finishes the others
  kStopped,
};
std::string_view service_state_name(ServiceState state);  // "serving", ...

struct EngineSnapshot {
  ServiceState state = ServiceState::kServing;
  int running = 0;  // sequences (choices) that hold a slot
  int waiting = 0;  // sequences that do not
  int max_running = 0;
  EngineCounters counters;
  int blocks_free = 0, blocks_live = 0, blocks_cached = 0, blocks_total = 0;
  Backend::Counters backend;  // without the start-up step
  StepTimeHistogram step_time;
  // Rows per layer and expert: since the start, and in the last ten seconds (CountsWindow).
  ExpertCounts experts{{}};
  ExpertCounts experts_window{{}};
  // Time since the engine's last sign of life while it has work; 0 when it has none.
  std::chrono::milliseconds silent_for{0};
  std::string last_failure;  // of the last failed step, "" when none
};

}  // namespace moeopt
