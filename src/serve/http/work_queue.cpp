#include "serve/http/work_queue.h"

#include <boost/asio/post.hpp>
#include <utility>

namespace moeopt::serve {

void WorkQueue::post(std::size_t bytes, std::function<void()> work) {
  const auto due = Clock::now() + std::chrono::microseconds(bytes);
  {
    const std::lock_guard lock(mutex_);
    waiting_.emplace(due, std::move(work));
  }
  boost::asio::post(thread_, [this] { work_on_next(); });
}

void WorkQueue::work_on_next() {
  std::function<void()> work;
  {
    const std::lock_guard lock(mutex_);
    const auto next = waiting_.begin();
    work = std::move(next->second);
    waiting_.erase(next);
  }
  work();
}

}  // namespace moeopt::serve
