// The threads of the fast ops, their kernels, and the loop by which they share weights to stream.
#pragma once

#include <atomic>

#include "base/thread_pool.h"
#include "cpu/fast/carver.h"
#include "cpu/fast/kernels.h"

namespace moeopt::cpu::fast {

struct Team {
  ThreadPool& pool;
  const Kernels& kernels;
};

// Calls work(item, following, member) for the items describe(0) .. describe(n - 1), each once.
// `following` is what the same member works on next, or Item{}: its weights can be prefetched.
template <typename Describe, typename Work>
void stream_items(ThreadPool& pool, int n, const Describe& describe, const Work& work) {
  using Item = decltype(describe(0));
  if (n <= 0) return;
  std::atomic<int> next{0};
  const auto share = [&](int member) {
    int index = next.fetch_add(1, std::memory_order_relaxed);
    if (index >= n) return;
    for (Item item = describe(index);;) {
      index = next.fetch_add(1, std::memory_order_relaxed);
      const Item following = index < n ? describe(index) : Item{};
      work(item, following, member);
      if (index >= n) return;
      item = following;
    }
  };
  if (n == 1) {
    share(0);
  } else {
    pool.share(share);
  }
}

// Each member's memory for product calls.
class ProductScratch {
 public:
  ProductScratch(Carver& carver, int threads, int max_inputs)
      : scales_stride_(static_cast<std::size_t>(max_inputs / kScaleBlock + 1)),
        product_(carver.take<std::byte>(static_cast<std::size_t>(threads) * kProductScratchBytes)),
        scales_(carver.take<float>(static_cast<std::size_t>(threads) * scales_stride_)) {}

  void* product(int member) const {
    return product_ + static_cast<std::size_t>(member) * kProductScratchBytes;
  }
  float* scales(int member) const {
    return scales_ + static_cast<std::size_t>(member) * scales_stride_;
  }

 private:
  std::size_t scales_stride_;
  std::byte* product_;
  float* scales_;
};

}  // namespace moeopt::cpu::fast
