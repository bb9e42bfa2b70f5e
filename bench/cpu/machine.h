// What this machine can do at most: the floors that the CPU benchmarks are held against.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace moeopt::bench {

// Bytes per second at which `pool` reads `memory`, the best of several passes.
double read_bandwidth(ThreadPool& pool, std::span<const std::byte> memory);

// Multiply-adds (counted as two) per second of the fastest way this processor has to multiply bf16
// weights, operands in registers or the first-level cache.
struct MultiplyPeak {
  std::string_view
      unit;  // "bf16 tiles", "AVX-512 bf16 dots", "AVX-512 float32", "AVX2 float32"; or empty
  double flops_per_s = 0;
};
MultiplyPeak multiply_peak(ThreadPool& pool);

}  // namespace moeopt::bench
