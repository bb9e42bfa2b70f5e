// Random device data: the same numbers for the same seed, on any machine; never zeros.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace moeopt::bench {

// `bytes` (a multiple of 8) of noise.
void launch_random_bytes(void* out, std::size_t bytes, std::uint64_t seed, cudaStream_t stream);

// Normally distributed values of standard deviation `scale`.
void launch_random_normal(__nv_bfloat16* out, std::size_t count, float scale, std::uint64_t seed,
                          cudaStream_t stream);

}  // namespace moeopt::bench
