#include "base/thread_pool.h"

#include "base/check.h"
#include "base/start_thread.h"

namespace moeopt {
namespace {

// About 30 us (a pause is 140 cycles on Sapphire Rapids): longer than the gap between two parallel
// parts of a layer, far shorter than a time slice that a busy machine would miss.
constexpr int kSpins = 500;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns the value of `word` once it is no longer `old`: spins, then sleeps in the kernel.
std::uint32_t wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t old) {
  for (int spin = 0; spin < kSpins; ++spin) {
    const std::uint32_t now = word.load(std::memory_order_acquire);
    if (now != old) return now;
    pause_briefly();
  }
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

}  // namespace

class ThreadPool::Worker {
 public:
  Worker(ThreadPool& pool, int member)
      : thread_(start_thread([this, &pool, member] { pool.serve(*this, member); })) {}
  ~Worker() { thread_.join(); }

  // The run that was claimed last: by this worker, which then does its part, or by the caller, who
  // then goes on without it.
  alignas(64) std::atomic<std::uint32_t> claimed{0};
  std::atomic<std::uint32_t> done{0};  // the last run whose part this worker has ended

 private:
  std::thread thread_;  // last: it uses the others
};

ThreadPool::ThreadPool(int threads) {
  MOEOPT_CHECK(threads >= 1);
  workers_.reserve(static_cast<std::size_t>(threads) - 1);
  try {
    for (int member = 1; member < threads; ++member) {
      workers_.push_back(std::make_unique<Worker>(*this, member));
    }
  } catch (...) {
    end();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  end();
}

void ThreadPool::end() {
  stopping_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_seq_cst);
  generation_.notify_all();
  workers_.clear();
}

void ThreadPool::run_erased(Erased work, const void* context, bool everyone) {
  if (workers_.empty()) {
    work(context, 0);
    return;
  }
  work_ = work;
  context_ = context;
  // NOTE: seq_cst here and for `done`: notify first asks whether anyone waits at all, and must not
  // find nobody while the new value is still on its way. With less, a worker's plain store may be
  // overtaken by that question, and caller and worker sleep for ever.
  const std::uint32_t run = generation_.fetch_add(1, std::memory_order_seq_cst) + 1;
  generation_.notify_all();
  work(context, 0);
  for (const auto& worker : workers_) {
    const bool came = everyone || worker->claimed.exchange(run, std::memory_order_acq_rel) == run;
    if (!came) continue;
    for (std::uint32_t done; (done = worker->done.load(std::memory_order_acquire)) != run;) {
      wait_for_change(worker->done, done);
    }
  }
}

void ThreadPool::serve(Worker& worker, int member) {
  std::uint32_t run = 0;
  while (true) {
    run = wait_for_change(generation_, run);
    if (stopping_.load(std::memory_order_relaxed)) return;
    std::uint32_t last = worker.claimed.load(std::memory_order_relaxed);
    if (static_cast<std::int32_t>(run - last) <= 0 ||
        !worker.claimed.compare_exchange_strong(last, run, std::memory_order_acq_rel)) {
      continue;  // too late: the caller has gone on, perhaps through several runs
    }
    work_(context_, member);
    worker.done.store(run, std::memory_order_seq_cst);
    worker.done.notify_one();
  }
}

}  // namespace moeopt
