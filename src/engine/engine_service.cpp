#include "engine/engine_service.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/start_thread.h"

namespace moeopt {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kExpertsEvery{100};

std::uint64_t n_finished(const EngineCounters& counters) {
  return counters.finished_stop + counters.finished_length + counters.finished_cancelled +
         counters.finished_timeout + counters.finished_error;
}

}  // namespace

EngineService::EngineService(std::unique_ptr<Engine> engine, const Options& options)
    : options_(options),
      engine_(std::move(engine)),
      experts_(engine_->expert_counts(), Clock::now()) {
  engine_->set_queue_timeout(options_.queue_timeout);
  engine_->set_observer([this] { publish(); });
  engine_->fill(published_);
  thread_ = start_thread([this] { work(); });
  try {
    watchdog_ = start_thread([this] { watch(); });
  } catch (...) {
    stop(milliseconds(0));
    thread_.join();
    throw;
  }
}

EngineService::~EngineService() {
  stop(milliseconds(0));
  thread_.join();
  watchdog_.join();
}

RequestId EngineService::submit(Request request, EventSink sink) {
  engine_->check(request);
  const std::lock_guard lock(mutex_);
  if (draining_) throw Error(ErrorCode::kUnavailable, "shutting down: no new requests");
  const int room = published_.max_running + options_.max_waiting;
  // One with more choices than there is room for gets in when nothing else is there.
  if (n_open_ > 0 && n_open_ + request.n > room) {
    throw Error(ErrorCode::kOverloaded,
                fmt::format("{} sequences are running or waiting, {} may", n_open_, room),
                "try again later");
  }
  const RequestId id = next_id_;
  const int n = request.n;
  auto counted = [this, sink = std::move(sink)](const Event& event) {
    if (event.finish != FinishReason::kNone) {
      const std::lock_guard finishing(mutex_);
      n_open_ -= 1;
      changed_.notify_all();
    }
    sink(event);
  };
  submitted_.push_back({id, std::move(request), std::move(counted)});
  next_id_ += 1;
  n_open_ += n;
  changed_.notify_all();
  return id;
}

void EngineService::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  cancelled_.push_back(id);
  changed_.notify_all();
}

void EngineService::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
  changed_.notify_all();
}

bool EngineService::stop(milliseconds grace) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  changed_.notify_all();
  changed_.wait_for(lock, grace, [this] { return n_open_ == 0 || ended_; });
  cancel_all_ = true;
  stopping_ = true;
  changed_.notify_all();
  return changed_.wait_for(lock, options_.stuck_after, [this] { return ended_; });
}

milliseconds EngineService::silent_for() const {
  if (!sign_of_life_) return milliseconds(0);
  return std::chrono::duration_cast<milliseconds>(Clock::now() - *sign_of_life_);
}

EngineSnapshot EngineService::snapshot() const {
  const std::lock_guard lock(mutex_);
  EngineSnapshot copy = published_;
  copy.experts = experts_.total();
  copy.experts_window = experts_.at(Clock::now());
  for (const Submitted& waiting : submitted_) copy.waiting += waiting.request.n;
  copy.silent_for = silent_for();
  if (ended_) {
    copy.state = ServiceState::kStopped;
  } else if (copy.silent_for > options_.stuck_after) {
    copy.state = ServiceState::kStuck;
  } else if (draining_) {
    copy.state = ServiceState::kDraining;
  }
  return copy;
}

void EngineService::work() {
  std::unique_lock lock(mutex_);
  for (bool busy = false;;) {
    changed_.wait(lock,
                  [&] { return busy || stopping_ || !submitted_.empty() || !cancelled_.empty(); });
    if (stopping_ && n_open_ == 0 && !busy) break;
    std::vector<Submitted> submitted = std::exchange(submitted_, {});
    const std::vector<RequestId> cancelled = std::exchange(cancelled_, {});
    const bool cancel_all = cancel_all_;
    sign_of_life_ = Clock::now();
    lock.unlock();
    try {
      take_in(std::move(submitted));
      for (const RequestId id : cancelled) engine_->cancel(id);
      if (cancel_all) engine_->cancel_all();
      busy = engine_->step();
    } catch (const std::exception& error) {  // out of memory while it reported the same
      log::error("the engine's thread goes on after: {}", error.what());
      busy = true;
    }
    lock.lock();
    sign_of_life_ = busy ? std::optional(Clock::now()) : std::nullopt;
  }
  ended_ = true;
  changed_.notify_all();
}

void EngineService::take_in(std::vector<Submitted> submitted) {
  for (Submitted& one : submitted) {
    const int n = one.request.n;
    try {
      engine_->enqueue(one.id, std::move(one.request), one.sink);
    } catch (const std::exception& error) {
      for (int choice = 0; choice < n; ++choice) {
        Event event{.request = one.id, .choice = choice, .finish = FinishReason::kError};
        event.error = error.what();
        try {
          one.sink(event);
        } catch (const std::exception& again) {
          log::warning("request {}: its sink failed: {}", one.id, again.what());
        }
      }
    }
  }
}

// On the engine's thread: before a step's events are sent, and after the step.
void EngineService::publish() {
  const std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  const std::uint64_t finished = n_finished(published_.counters);
  engine_->fill(published_);
  sign_of_life_ = now;
  const bool idle = published_.running + published_.waiting == 0;
  const bool same_ends = finished == n_finished(published_.counters);
  if (!idle && same_ends && now - experts_.updated() < kExpertsEvery) return;
  experts_.update(engine_->expert_counts(), now);
}

void EngineService::watch() {
  const milliseconds pause =
      std::clamp(options_.stuck_after / 4, milliseconds(5), milliseconds(1000));
  bool reported = false;
  std::unique_lock lock(mutex_);
  while (!ended_) {
    changed_.wait_for(lock, pause, [this] { return ended_; });
    const milliseconds silent = silent_for();
    const bool stuck = silent > options_.stuck_after;
    if (stuck && !reported) {
      log::error("the engine is stuck: no sign of life for {} ms", silent.count());
    } else if (!stuck && reported) {
      log::warning("the engine goes on");
    }
    reported = stuck;
  }
}

}  // namespace moeopt
