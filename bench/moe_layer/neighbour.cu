#include <cstdint>
#include <map>
#include <stdexcept>

#include "moe_layer/neighbour.h"
#include "moe_layer/timing.h"

namespace moeopt::bench {
namespace {

constexpr int kThreads = 128;
constexpr int kInstructions = 4096;  // of 16 bytes

// Straight-line code of its own for each kPart, which no compiler shortens. `never` is null.
template <int kPart>
__global__ void run_code(float* never) {
  float value = static_cast<float>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kInstructions; ++i) {
    asm volatile("fma.rn.f32 %0, %0, %0, %1;" : "+f"(value) : "f"(kPart + 0.5f));
  }
  if (never != nullptr) *never = value;
}

__global__ void read_memory(const uint4* from, std::size_t count, uint4* never) {
  uint4 all{};
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
       i += std::size_t{1} * gridDim.x * blockDim.x) {
    const uint4 some = from[i];
    all = {all.x ^ some.x, all.y ^ some.y, all.z ^ some.z, all.w ^ some.w};
  }
  if (all.x == 1 && all.y == 2 && never != nullptr) *never = all;
}

template <bool kSplit>
__global__ void run_nothing() {}

struct Memory {
  std::size_t count = std::size_t{2} * l2_bytes() / sizeof(uint4);
  DeviceArray<uint4> words = device_array<uint4>(count);
  Memory() { check(cudaMemset(words.get(), 0, count * sizeof(uint4))); }
};

}  // namespace

Neighbour parse_neighbour(const std::string& name) {
  static const std::map<std::string, Neighbour> kNames = {
      {"launch", Neighbour::kLaunch}, {"split", Neighbour::kSplit}, {"code", Neighbour::kCode},
      {"memory", Neighbour::kMemory}, {"model", Neighbour::kModel},
  };
  const auto found = kNames.find(name);
  if (found == kNames.end()) throw std::invalid_argument("no neighbour " + name);
  return found->second;
}

void launch_neighbour(Neighbour neighbour, cudaStream_t stream) {
  if (neighbour == Neighbour::kNone) return;
  const auto blocks = static_cast<unsigned>(multiprocessor_count());
  const auto launch = [&](auto kernel, auto... arguments) {
    kernel<<<blocks, kThreads, 0, stream>>>(arguments...);
    check(cudaGetLastError());
  };
  const bool reads = neighbour == Neighbour::kMemory || neighbour == Neighbour::kModel;
  if (neighbour == Neighbour::kCode || neighbour == Neighbour::kModel) {
    float* const never = nullptr;
    launch(run_code<0>, never);
    launch(run_code<1>, never);
    if (!reads) launch(run_code<2>, never);
  } else if (neighbour == Neighbour::kSplit) {
    check(cudaFuncSetAttribute(run_nothing<true>, cudaFuncAttributePreferredSharedMemoryCarveout,
                               static_cast<int>(cudaSharedmemCarveoutMaxL1)));
    for (int i = 0; i < kNeighbourKernels; ++i) launch(run_nothing<true>);
  } else {
    for (int i = reads ? 1 : 0; i < kNeighbourKernels; ++i) launch(run_nothing<false>);
  }
  if (reads) {
    static const Memory memory;
    uint4* const never = nullptr;
    launch(read_memory, static_cast<const uint4*>(memory.words.get()), memory.count, never);
  }
}

}  // namespace moeopt::bench
