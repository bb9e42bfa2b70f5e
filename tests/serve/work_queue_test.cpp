#include "serve/http/work_queue.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <string>
#include <thread>

namespace moeopt::serve {
namespace {

// What was worked on, in order; nothing is before open().
class Log {
 public:
  explicit Log(WorkQueue& queue) : queue_(queue) {
    queue_.post(0, [closed = open_.get_future().share()] { closed.wait(); });
  }
  void post(std::size_t bytes, char name) {
    queue_.post(bytes, [this, name] { text_ += name; });
  }
  std::string open() {
    open_.set_value();
    queue_.join();
    return text_;
  }

 private:
  WorkQueue& queue_;
  std::promise<void> open_;
  std::string text_;
};

TEST(WorkQueue, ShortOnesPassLongOnes) {
  WorkQueue queue;
  Log log(queue);
  log.post(8'000'000, 'L');
  log.post(8'000'000, 'M');
  log.post(100, 's');
  log.post(2'000'000, 'm');
  EXPECT_EQ(log.open(), "smLM");
}

TEST(WorkQueue, WhoHasWaitedHasATurn) {
  WorkQueue queue;
  Log log(queue);
  log.post(1'000, 'L');  // due after 1 ms
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  log.post(0, 's');
  EXPECT_EQ(log.open(), "Ls");
}

}  // namespace
}  // namespace moeopt::serve
