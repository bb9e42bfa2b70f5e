// Hands out consecutive, 64-byte aligned pieces of one planned piece of memory.
// Invariant: the same sequence of take() calls needs the same bytes with memory and without, so
// what an op carves and what scratch_bytes() promises come from one function each.
#pragma once

#include <cstddef>
#include <span>

#include "base/check.h"

namespace moeopt::cpu::fast {

class Carver {
 public:
  Carver() = default;  // only counts: every piece is null
  explicit Carver(std::span<std::byte> memory) : memory_(memory) {}

  template <typename T>
  T* take(std::size_t n) {
    const std::size_t offset = used_;
    used_ += (n * sizeof(T) + 63) / 64 * 64;
    if (memory_.data() == nullptr) return nullptr;
    MOEOPT_CHECK(used_ <= memory_.size());
    return reinterpret_cast<T*>(memory_.data() + offset);
  }
  std::size_t used_bytes() const { return used_; }

 private:
  std::span<std::byte> memory_;
  std::size_t used_ = 0;
};

}  // namespace moeopt::cpu::fast
