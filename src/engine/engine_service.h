// EngineService: an Engine on its own thread. Every public call may be made by any thread.
// Invariants: the engine is touched by its thread alone; every accepted request gets exactly one
// finishing event per choice, whatever fails.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/engine_snapshot.h"
#include "engine/request.h"
#include "routing/counts_window.h"

namespace moeopt {

class EngineService {
 public:
  struct Options {
    int max_waiting = 512;                       // sequences beyond those that can run at once
    std::chrono::milliseconds queue_timeout{0};  // 0: none
    std::chrono::milliseconds stuck_after{30'000};
  };

  // Starts the thread. The engine has run its start-up step already; its backend must outlive this.
  EngineService(std::unique_ptr<Engine> engine, const Options& options);
  EngineService(const EngineService&) = delete;
  EngineService& operator=(const EngineService&) = delete;
  ~EngineService();  // stop(0)

  // Error(kUsage): a request that can never run, Error(kOverloaded): the queue is full,
  // Error(kUnavailable): draining or stopped. The sink is called on the engine's thread, possibly
  // before submit() returns, and must not block.
  RequestId submit(Request request, EventSink sink);
  // Takes effect within one step. Unknown and finished ids are ignored.
  void cancel(RequestId id);
  // Refuses new requests from now on, finishes the others.
  void drain();
  // Drains for at most `grace`, then cancels what is left and ends the thread. Returns false, with
  // the thread still alive, when a step does not end within another stuck_after.
  bool stop(std::chrono::milliseconds grace);

  EngineSnapshot snapshot() const;

 private:
  struct Submitted {
    RequestId id;
    Request request;
    EventSink sink;
  };

  using Clock = std::chrono::steady_clock;

  void work();
  void take_in(std::vector<Submitted> submitted);
  void publish();
  void watch();
  std::chrono::milliseconds silent_for() const;  // mutex_ held

  const Options options_;
  std::unique_ptr<Engine> engine_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Submitted> submitted_;
  std::vector<RequestId> cancelled_;
  RequestId next_id_ = 1;
  int n_open_ = 0;  // sequences accepted and not finished
  bool draining_ = false;
  bool cancel_all_ = false;
  bool stopping_ = false;
  bool ended_ = false;
  EngineSnapshot published_;
  std::optional<Clock::time_point> sign_of_life_;  // none while the engine has nothing to do
  CountsWindow experts_;

  std::thread thread_, watchdog_;  // last: they use everything above
};

}  // namespace moeopt
