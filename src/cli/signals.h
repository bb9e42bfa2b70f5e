// Signals of a long-running verb, taken by a thread of their own. At most one at a time.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace moeopt::cli {

class SignalThread {
 public:
  // From now on SIGTERM and SIGINT ask for the end, SIGHUP calls `on_hang_up` (on the thread). The
  // second SIGTERM or SIGINT ends the program at once. Before any other thread is made.
  explicit SignalThread(std::function<void()> on_hang_up);
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;
  ~SignalThread();

  // Before this is set, the first one ends the program too: there is nothing to finish yet.
  void set_graceful();
  void wait_for_end();

 private:
  void take_signals();

  std::function<void()> on_hang_up_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool graceful_ = false;
  bool asked_ = false;
  std::thread thread_;
};

}  // namespace moeopt::cli
