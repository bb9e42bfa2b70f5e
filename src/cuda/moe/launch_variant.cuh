// How one compiled tile is launched. Included by the files that instantiate tiles (launch_*.cu)
// alone. Invariant: one kernel node a launch.
#pragma once

#include <array>
#include <atomic>

#include "cuda/moe/kernel.cuh"
#include "cuda/moe/variants.h"

namespace moeopt::cuda::moe {

inline constexpr std::size_t kSharedLimit = 227 * 1024;  // of a Hopper block

// Sizes of the launch, but for the tokens.
template <typename T>
Launch make_launch(const Params& p) {
  Launch launch{};
  const int gate_rows =
      (p.ids == nullptr ? p.experts_total : 0) + (p.shared_gate != nullptr ? 1 : 0);
  launch.n_max = T::kNMax;
  launch.quantises = T::kFp8;
  launch.hidden = p.hidden;
  launch.gathers = T::kImages && p.gathers != 0;
  launch.dispatches = p.local_lists == 0 || (p.route_everywhere == 0 && p.ids == nullptr);
  launch.gate_tokens = gate_rows > 0 ? p.gate_tokens : 0;
  launch.gate_units = ceil_div(gate_rows, p.gate_rows);
  launch.units1 = ceil_div(p.layout.tiles1(), T::kMTiles);
  launch.units2 = ceil_div(p.layout.tiles2(), T::kSecondTiles);
  if (p.shared_intermediate > 0) {
    launch.shared_units1 = ceil_div(p.shared_layout.tiles1(), T::kMTiles);
    launch.shared_units2 = ceil_div(p.shared_layout.tiles2(), T::kSecondTiles);
  }
  return launch;
}

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
  Params copy = params;
  copy.launch = make_launch<T>(params);
  void* arguments[] = {&copy};
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
