#include "cli/signals.h"

#include <csignal>
#include <cstdlib>

#include "base/start_thread.h"

namespace moeopt::cli {
namespace {

constexpr int kWakeUp = SIGUSR2;  // our own: the thread is to end

sigset_t the_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, kWakeUp}) sigaddset(&set, signal);
  return set;
}

}  // namespace

SignalThread::SignalThread(std::function<void()> on_hang_up) : on_hang_up_(std::move(on_hang_up)) {
  const sigset_t set = the_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = start_thread([this] { take_signals(); });
}

SignalThread::~SignalThread() {
  pthread_kill(thread_.native_handle(), kWakeUp);
  thread_.join();
}

void SignalThread::set_graceful() {
  const std::lock_guard lock(mutex_);
  graceful_ = true;
}

void SignalThread::wait_for_end() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return asked_; });
}

void SignalThread::take_signals() {
  const sigset_t set = the_signals();
  while (true) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) continue;
    if (signal == kWakeUp) return;
    if (signal == SIGHUP) {
      on_hang_up_();
      continue;
    }
    const std::lock_guard lock(mutex_);
    if (!graceful_ || asked_) std::_Exit(128 + signal);
    asked_ = true;
    changed_.notify_all();
  }
}

}  // namespace moeopt::cli
