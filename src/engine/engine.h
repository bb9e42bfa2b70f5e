// Engine: the sole owner of all request state. Requests come in by submit(), each step admits,
// schedules, launches and hands out what was sampled.
// One thread calls everything here but check(). Invariants: a failing request ends alone, and
// nothing that a sink, a backend or an allocation throws leaves step(); a choice's tokens depend on
// its request alone, not on its batch, on chunks, on cached prefixes or on preemption; when idle,
// every KV block is free or cached and every slot is free.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "engine/engine_snapshot.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/step_budget.h"
#include "kv/kv_cache.h"
#include "routing/expert_counts.h"
#include "routing/route_sink.h"
#include "text/tokenizer.h"

namespace moeopt {

struct EngineOptions {
  using Clock = std::chrono::steady_clock;

  int max_model_len = 0;        // prompt and output together, tokens
  int max_step_tokens = 0;      // of a step
  bool overlap = true;          // launch step n + 1 before waiting for step n
  bool prefix_cache = true;     // keep the blocks of finished prompts and outputs
  bool chunked_prefill = true;  // prompts may be split over steps
  int max_step_ms = 0;          // of a step's prefill while others stream; 0: no limit
  std::chrono::milliseconds request_timeout{0};  // longest that any request may take; 0: none
  std::chrono::milliseconds queue_timeout{0};    // longest wait for the first step; 0: none
  std::function<Clock::time_point()> now = [] { return Clock::now(); };
};

class Engine {
 public:
  using Counters = EngineCounters;
  using Clock = EngineOptions::Clock;

  static constexpr int kMaxChoices = 128;
  static constexpr int kFailingAfter = 3;  // failed steps in a row make it kFailing

  // `tokenizer` may be null: events then carry no text and stop strings are refused.
  Engine(Backend& backend, const Tokenizer* tokenizer, const EngineOptions& options);

  // Queues a request. Error(kUsage) when it can never run: empty prompt, too long, ids outside the
  // vocabulary, bad sampling parameters. `sink` is called from step() and cancel().
  RequestId submit(Request request, EventSink sink);

  // submit() in two parts: check() throws and completes the request, and may be called by any
  // thread; enqueue() queues what it passed, under an id of the caller's choice.
  void check(Request& request) const;
  void enqueue(RequestId id, Request request, EventSink sink);

  // Ends a request early; its sink gets kCancelled for each choice that had not ended already.
  void cancel(RequestId id);
  void cancel_all();

  // Admits what fits, launches a step when there is work, and delivers the results of the step
  // launched before. Returns false when nothing is waiting, running or in flight.
  bool step();

  // Runs short requests to their ends, a prompt in two chunks and then once more from the prefix
  // cache, and returns what they counted; the engine's own counters and backend_counters() then
  // start from zero. Only while nothing is waiting or running. Error(kInvalidData) when the model
  // gives no numbers.
  Counters start_up_step();

  // Forgets cached prefixes: for who writes to the backend's blocks behind the engine's back.
  // Only while idle.
  void forget_prefixes();

  // Hands each step's routes to `sink`, from now on (null: no longer); the backend keeps them
  // (Backend::set_record_routes). The sink outlives the engine's steps.
  void set_route_sink(RouteSink* sink) { route_sink_ = sink; }

  void set_queue_timeout(std::chrono::milliseconds timeout) { options_.queue_timeout = timeout; }
  // Called when counters have changed: before the events of a step are sent, and after the step.
  void set_observer(std::function<void()> observer) { observer_ = std::move(observer); }

  const Counters& counters() const { return counters_; }
  Backend::Counters backend_counters() const { return backend_.counters() - backend_at_start_; }
  const ExpertCounts& expert_counts() const { return expert_counts_; }
  const BlockPool& blocks() const { return kv_.pool(); }
  int n_waiting() const { return static_cast<int>(waiting_.size()); }
  int n_running() const { return static_cast<int>(running_.size()); }
  // Everything but the expert counts and what EngineService alone knows.
  void fill(EngineSnapshot& snapshot) const;

 private:
  struct InFlight {
    Ticket ticket;
    ScheduledStep step;
    Clock::time_point launched;
  };
  struct Pending {  // an event that waits for the counters to be published
    Sequence* sequence;
    std::string text;
    const SampledToken* token;
    FinishReason finish;
    std::string error;
  };

  // engine.cpp
  void launch();
  void cancel_if(const std::function<bool(const Sequence&)>& is_meant);
  void set_masks(const ScheduledStep& step);
  bool is_busy() const { return !waiting_.empty() || !running_.empty() || !in_flight_.empty(); }
  void check_idle() const;
  void notify_observer() const;

  // engine_admission.cpp
  void expire();
  void expire(Sequence& sequence, Clock::time_point now);
  void admit();
  bool awaits_first_choice(const Sequence& sequence) const;
  bool place(Sequence& sequence);
  void bind(Sequence& sequence, int n_there);
  void make_room();
  bool grow_all();
  bool release_shares();
  void preempt_youngest();
  void share_with_waiting(const Sequence& first);
  void retire_finished();

  // engine_delivery.cpp
  void deliver_oldest();
  void measure(const InFlight& done);
  void hand_over_routes(const ScheduledStep& step, const StepRoutes& routes);
  void take_scores(const ScheduledStep& step, std::span<const float> logits);
  void take_sample(Sequence& sequence, const SampledToken& token);
  void keep_blocks(const ScheduledStep& step);
  void decide(Sequence& sequence, FinishReason reason);
  void pend(Sequence& sequence, const SampledToken* token, FinishReason reason, std::string text,
            std::string error = {});
  void send_pending();
  void send(Sequence& sequence, const Event& event);
  void end_now(Sequence& sequence, FinishReason reason, std::string_view error);
  void step_failed(const ScheduledStep& step, std::string_view why);
  void recover(std::string_view why);

  Backend& backend_;
  const Tokenizer* tokenizer_;
  EngineOptions options_;
  KvCache kv_;
  std::vector<int> free_slots_;
  std::deque<std::unique_ptr<Sequence>> waiting_;   // by order of arrival
  std::vector<std::unique_ptr<Sequence>> running_;  // by order of arrival
  std::deque<InFlight> in_flight_;
  StepPlan plan_;
  StepBudget budget_;
  Clock::time_point last_done_{};
  std::vector<Pending> pending_;
  std::vector<std::uint64_t> mask_;
  RequestId next_id_ = 1;
  std::uint64_t next_order_ = 0;
  Counters counters_;
  Backend::Counters backend_at_start_;  // after the start-up step
  StepTimeHistogram step_time_;
  ExpertCounts expert_counts_;
  RouteSink* route_sink_ = nullptr;
  std::vector<RouteRun> route_runs_;
  int failures_in_a_row_ = 0;
  std::string last_failure_;
  std::function<void()> observer_;
};

}  // namespace moeopt
