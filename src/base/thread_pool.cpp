#include "base/thread_pool.h"

#include <thread>

#include "base/check.h"

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
  Worker(ThreadPool& pool, int member) : thread_([&pool, member] { pool.serve(member); }) {}

 private:
  std::jthread thread_;
};

ThreadPool::ThreadPool(int threads) {
  MOEOPT_CHECK(threads >= 1);
  workers_.reserve(static_cast<std::size_t>(threads) - 1);
  for (int member = 1; member < threads; ++member) {
    workers_.push_back(std::make_unique<Worker>(*this, member));
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  workers_.clear();
}

void ThreadPool::run_erased(Erased work, const void* context) {
  if (workers_.empty()) {
    work(context, 0);
    return;
  }
  work_ = work;
  context_ = context;
  running_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  work(context, 0);
  for (std::uint32_t left; (left = running_.load(std::memory_order_acquire)) != 0;) {
    wait_for_change(running_, left);
  }
}

void ThreadPool::serve(int member) {
  std::uint32_t seen = 0;
  while (true) {
    seen = wait_for_change(generation_, seen);
    if (stopping_.load(std::memory_order_relaxed)) return;
    work_(context_, member);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace moeopt
