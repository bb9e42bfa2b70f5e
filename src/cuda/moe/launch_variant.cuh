// How one compiled tile is launched. Included by the files that instantiate tiles (launch_*.cu)
// alone. Invariant: one kernel node a launch.
#pragma once

#include <array>
#include <atomic>

#include "cuda/moe/kernel.cuh"
#include "cuda/moe/variants.h"

namespace moeopt::cuda::moe {

inline constexpr std::size_t kSharedLimit = 227 * 1024;  // of a Hopper block

// Once a device: a block may have all of its multiprocessor's shared memory.
template <typename T>
cudaError_t allow_shared_memory() {
  static std::array<std::atomic<bool>, 64> allowed{};
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  const bool known = device >= 0 && device < static_cast<int>(allowed.size());
  if (known && allowed[device].load(std::memory_order_relaxed)) return cudaSuccess;
  const cudaError_t error = cudaFuncSetAttribute(
      flash_dmoe<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes<T>());
  if (error == cudaSuccess && known) allowed[device].store(true, std::memory_order_relaxed);
  return error;
}

template <typename T>
cudaError_t launch_variant(const Params& params, int blocks, cudaStream_t stream) {
  static_assert(shared_bytes<T>() <= kSharedLimit);
  constexpr auto kernel = flash_dmoe<T>;
  if (const cudaError_t error = allow_shared_memory<T>(); error != cudaSuccess) return error;
  void* arguments[] = {const_cast<Params*>(&params)};
  return cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), arguments,
                          shared_bytes<T>(), stream);
}

template <typename T>
cudaError_t set_trace(void* buffer) {
#if defined(MOEOPT_MOE_TRACE)
  return cudaMemcpyToSymbol(trace_buffer, &buffer, sizeof(buffer));
#else
  static_cast<void>(buffer);
  return cudaSuccess;
#endif
}

}  // namespace moeopt::cuda::moe
