// Engine: the sole owner of all request state. Requests come in by submit(), each step admits,
// schedules, launches and hands out what was sampled.
// One thread calls everything here. Invariants: a failing request ends alone; when idle, every KV
// block and slot is free again.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "kv/block_pool.h"
#include "routing/expert_counts.h"
#include "routing/route_sink.h"
#include "text/tokenizer.h"

namespace moeopt {

struct EngineOptions {
  int max_model_len = 0;    // prompt and output together, tokens
  int max_step_tokens = 0;  // prefill is cut in chunks so that a step stays within it
  bool overlap = true;      // launch step n + 1 before waiting for step n
};

class Engine {
 public:
  // `tokenizer` may be null: events then carry no text and stop strings are refused.
  Engine(Backend& backend, const Tokenizer* tokenizer, const EngineOptions& options);

  // Queues a request. Error(kUsage) when it can never run: empty prompt, too long, ids outside the
  // vocabulary, bad sampling parameters. `sink` is called from step() and cancel().
  RequestId submit(Request request, EventSink sink);

  // Ends a request early; its sink gets kCancelled unless it had ended already.
  void cancel(RequestId id);

  // Admits what fits, launches a step when there is work, and delivers the results of the step
  // launched before. Returns false when nothing is waiting, running or in flight.
  bool step();

  struct Counters {
    std::uint64_t steps = 0;
    std::uint64_t prompt_tokens = 0;
    std::uint64_t output_tokens = 0;
    std::uint64_t prefill_chunks = 0;  // of prompts that did not fit one step
  };
  // Runs a short request to its end, its prompt in two chunks, and returns what it counted; the
  // engine's own counters then start from zero. Only while nothing is waiting or running.
  Counters start_up_step();

  // Hands each step's routes to `sink`, from now on (null: no longer); the backend keeps them
  // (Backend::set_record_routes). The sink outlives the engine's steps.
  void set_route_sink(RouteSink* sink) { route_sink_ = sink; }

  const Counters& counters() const { return counters_; }
  const ExpertCounts& expert_counts() const { return expert_counts_; }
  const BlockPool& blocks() const { return pool_; }
  int n_waiting() const { return static_cast<int>(waiting_.size()); }
  int n_running() const { return static_cast<int>(running_.size()); }

 private:
  struct InFlight {
    Ticket ticket;
    ScheduledStep step;
  };

  int blocks_needed(const Request& request) const;
  void admit();
  void launch();
  void deliver_oldest();
  void hand_over_routes(const ScheduledStep& step, const StepRoutes& routes);
  void deliver(Sequence& sequence, const SampledToken& token);
  void finish(Sequence& sequence, FinishReason reason, std::string_view text,
              const SampledToken* token);
  void retire_finished();

  Backend& backend_;
  const Tokenizer* tokenizer_;
  EngineOptions options_;
  BlockPool pool_;
  std::vector<int> free_slots_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // oldest first
  std::deque<InFlight> in_flight_;
  StepPlan plan_;
  RequestId next_id_ = 1;
  Counters counters_;
  ExpertCounts expert_counts_;
  RouteSink* route_sink_ = nullptr;
  std::vector<RouteRun> route_runs_;
};

}  // namespace moeopt
