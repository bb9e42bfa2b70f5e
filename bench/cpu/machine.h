// What this machine can do at most: the floors that the CPU benchmarks are held against.
#pragma once

#include <cstddef>
#include <span>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace moeopt::bench {

// Bytes per second at which `pool` reads `memory`, the best of several passes.
double read_bandwidth(ThreadPool& pool, std::span<const std::byte> memory);

// bf16 multiply-adds (counted as two) per second of register tiles, operands in the first-level
// cache; 0 without AMX.
double amx_peak(ThreadPool& pool);

}  // namespace moeopt::bench
