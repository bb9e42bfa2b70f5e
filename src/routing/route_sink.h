// RouteSink: who wants to know which experts each token went to. The engine calls it on its own
// thread, right after a step's results are there and before any of its tokens is delivered.
// Invariant: a row is handed over exactly once per time it was computed; rows of a sequence that
// had already ended, of the start-up step, and padding are never handed over.
#pragma once

#include <cstdint>
#include <span>

namespace moeopt {

// One step's routes, [n_moe_layers, n_tokens, top_k] as in backend/backend.h: id -1 is no expert.
struct RouteStep {
  std::span<const std::int16_t> ids;
  std::span<const float> weights;
  int n_tokens = 0;
  int top_k = 0;
};

// Consecutive rows of a step that belong to one choice of one request.
struct RouteRun {
  std::uint64_t request = 0;
  int choice = 0;
  int first_row = 0;  // in the step
  int n_tokens = 0;
  int first_position = 0;  // of the first row in its sequence
  int n_prompt = 0;        // positions below it are prompt
};

class RouteSink {
 public:
  RouteSink() = default;
  RouteSink(const RouteSink&) = delete;
  RouteSink& operator=(const RouteSink&) = delete;
  virtual ~RouteSink() = default;

  virtual void on_routes(std::span<const RouteRun> runs, const RouteStep& step) = 0;
  // The choice has ended, by whatever reason; nothing more of it comes.
  virtual void on_finished(std::uint64_t request, int choice) = 0;
};

}  // namespace moeopt
