// A fixed team of threads that runs one function at a time, and the tickets by which its members
// share work items.
// Invariant: run() allocates nothing and returns after every member has; what a member wrote is
// visible to the caller then. Which member does what must never change a result: items are handed
// out in whatever order the threads come.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace moeopt {

class ThreadPool {
 public:
  // `threads` members in all, the calling thread of run() being member 0. At least 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls work(member) once on each member, 0 <= member < threads(), and waits for all. Not from
  // inside `work`, and from one thread at a time. `work` must not throw.
  template <typename Work>
  void run(const Work& work) {
    static_assert(std::is_invocable_v<const Work&, int>);
    run_erased(
        [](const void* context, int member) { (*static_cast<const Work*>(context))(member); },
        &work);
  }

  // Calls item(index, member) for every 0 <= index < n, each once, on whichever member is free.
  template <typename Item>
  void for_each(int n, const Item& item) {
    if (n <= 0) return;
    if (n == 1 || threads() == 1) {
      for (int i = 0; i < n; ++i) item(i, 0);
      return;
    }
    std::atomic<int> next{0};
    run([&](int member) {
      for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) item(i, member);
    });
  }

 private:
  using Erased = void (*)(const void* context, int member);
  class Worker;

  void run_erased(Erased work, const void* context);
  void serve(int member);

  Erased work_ = nullptr;
  const void* context_ = nullptr;
  // Counts runs. Workers wait for it to move, the caller for running_
  // to reach zero.
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  alignas(64) std::atomic<std::uint32_t> running_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace moeopt
