#include "engine/engine_service.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace moeopt {

using Clock = std::chrono::steady_clock;

EngineService::EngineService(std::unique_ptr<Engine> engine, const Options& options)
    : options_(options), engine_(std::move(engine)) {
  engine_->fill(published_);
  thread_ = std::thread([this] { work(); });
}

EngineService::~EngineService() {
  stop(std::chrono::milliseconds(0));
  if (thread_.joinable()) thread_.join();
}

RequestId EngineService::submit(Request request, EventSink sink) {
  engine_->check(request);
  const std::lock_guard lock(mutex_);
  if (draining_) throw Error(ErrorCode::kUnavailable, "shutting down: no new requests");
  const int room = published_.max_running + options_.max_waiting;
  if (n_open_ > 0 && n_open_ + request.n > room) {
    throw Error(ErrorCode::kOverloaded,
                fmt::format("{} sequences are running or waiting, {} may", n_open_, room),
                "try again later");
  }
  n_open_ += request.n;
  const RequestId id = next_id_++;
  auto counted = [this, sink = std::move(sink)](const Event& event) {
    if (event.finish != FinishReason::kNone) {
      const std::lock_guard finishing(mutex_);
      n_open_ -= 1;
    }
    sink(event);
  };
  submitted_.push_back({id, std::move(request), std::move(counted)});
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

bool EngineService::stop(std::chrono::milliseconds grace) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  changed_.notify_all();
  changed_.wait_for(lock, grace, [this] { return n_open_ == 0 || ended_; });
  cancel_all_ = true;
  stopping_ = true;
  changed_.notify_all();
  return changed_.wait_for(lock, options_.stuck_after, [this] { return ended_; });
}

EngineSnapshot EngineService::snapshot() const {
  const std::lock_guard lock(mutex_);
  EngineSnapshot copy = published_;
  if (step_began_ != Clock::time_point{}) {
    copy.in_step =
        std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - step_began_);
  }
  if (ended_) {
    copy.state = ServiceState::kStopped;
  } else if (copy.in_step > options_.stuck_after) {
    copy.state = ServiceState::kStuck;
  } else if (draining_) {
    copy.state = ServiceState::kDraining;
  }
  return copy;
}

void EngineService::work() {
  std::vector<RequestId> open;
  std::unique_lock lock(mutex_);
  for (bool busy = false;;) {
    changed_.wait(lock,
                  [&] { return busy || stopping_ || !submitted_.empty() || !cancelled_.empty(); });
    std::vector<Submitted> submitted = std::exchange(submitted_, {});
    std::vector<RequestId> cancelled = std::exchange(cancelled_, {});
    const bool cancel_all = cancel_all_;
    if (stopping_ && n_open_ == 0) break;
    step_began_ = Clock::now();
    lock.unlock();

    for (Submitted& one : submitted) {
      open.push_back(one.id);
      engine_->enqueue(one.id, std::move(one.request), std::move(one.sink));
    }
    if (cancel_all) cancelled.insert(cancelled.end(), open.begin(), open.end());
    for (const RequestId id : cancelled) engine_->cancel(id);
    busy = engine_->step();
    if (!busy) open.clear();

    lock.lock();
    step_began_ = {};
    engine_->fill(published_);
    changed_.notify_all();
  }
  ended_ = true;
  changed_.notify_all();
}

}  // namespace moeopt
