#include "moe_layer/random_fill.cuh"
#include "moe_layer/timing.h"

namespace moeopt::bench {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 1056;

// SplitMix64 (Steele, Lea, Flood, 2014) of the element's number.
__device__ inline std::uint64_t noise(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = (seed << 40) + (index + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

__global__ void random_bytes_kernel(std::uint64_t* out, std::size_t count, std::uint64_t seed) {
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
       i += std::size_t{1} * gridDim.x * blockDim.x) {
    out[i] = noise(seed, i);
  }
}

// Box and Muller's transform, the cosine half.
__global__ void random_normal_kernel(__nv_bfloat16* out, std::size_t count, float scale,
                                     std::uint64_t seed) {
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
       i += std::size_t{1} * gridDim.x * blockDim.x) {
    const std::uint64_t z = noise(seed, i);
    const float u = (static_cast<float>(z >> 40) + 0.5f) * 0x1p-24f;
    const float v = static_cast<float>(z & 0xffffff) * 0x1p-24f;
    out[i] = __float2bfloat16(scale * sqrtf(-2.0f * logf(u)) * cospif(2.0f * v));
  }
}

}  // namespace

void launch_random_bytes(void* out, std::size_t bytes, std::uint64_t seed, cudaStream_t stream) {
  random_bytes_kernel<<<kBlocks, kThreads, 0, stream>>>(static_cast<std::uint64_t*>(out), bytes / 8,
                                                        seed);
  check(cudaGetLastError());
}

void launch_random_normal(__nv_bfloat16* out, std::size_t count, float scale, std::uint64_t seed,
                          cudaStream_t stream) {
  random_normal_kernel<<<kBlocks, kThreads, 0, stream>>>(out, count, scale, seed);
  check(cudaGetLastError());
}

}  // namespace moeopt::bench
