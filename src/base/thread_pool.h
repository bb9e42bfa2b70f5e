// A fixed team of threads that runs one function at a time, and the tickets by which its members
// share work items.
// Invariant: run() and share() allocate nothing and return after every member that began has ended;
// what a member wrote is visible to the caller then. Which member does what must never change a
// result: items are handed out in whatever order the threads come.
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
    run_erased(erase<Work>(), &work, true);
  }

  // The same for work of which any member can do all: calls work(0) here, and work(member) on the
  // members that come before that has returned. On a busy machine the others may have no processor
  // for milliseconds, and are not waited for.
  template <typename Work>
  void share(const Work& work) {
    run_erased(erase<Work>(), &work, false);
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
    share([&](int member) {
      for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) item(i, member);
    });
  }

 private:
  using Erased = void (*)(const void* context, int member);
  class Worker;

  template <typename Work>
  static Erased erase() {
    static_assert(std::is_invocable_v<const Work&, int>);
    return [](const void* context, int member) { (*static_cast<const Work*>(context))(member); };
  }
  void end();  // of the workers
  void run_erased(Erased work, const void* context, bool everyone);
  void serve(Worker& worker, int member);

  Erased work_ = nullptr;
  const void* context_ = nullptr;
  // Counts runs. Workers wait for it to move.
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace moeopt
