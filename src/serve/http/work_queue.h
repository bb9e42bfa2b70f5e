// The thread on which requests are worked on, and their order. Owned here: which of those that wait
// is next. Invariant: the one that is due first, and a request of n bytes is due n us after it
// came: short ones pass long ones, and long ones have their turn all the same.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>

namespace moeopt::serve {

class WorkQueue {
 public:
  // From any thread. `bytes`: of the request, for its place.
  void post(std::size_t bytes, std::function<void()> work);
  // Until all that was posted is done; nothing may be posted any more.
  void join() { thread_.join(); }

 private:
  using Clock = std::chrono::steady_clock;
  void work_on_next();

  std::mutex mutex_;
  std::multimap<Clock::time_point, std::function<void()>> waiting_;  // by when they are due
  boost::asio::thread_pool thread_{1};
};

}  // namespace moeopt::serve
