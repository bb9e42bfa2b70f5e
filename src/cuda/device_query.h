// Which NVIDIA GPUs this process can see. No CUDA header leaks out of here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moeopt::cuda {

struct Gpu {
  std::string name;
  int compute_capability;  // 90 for 9.0
  std::uint64_t memory_bytes;
};

struct GpuQuery {
  std::vector<Gpu> gpus;
  std::string problem;      // why there are none; empty when there are some
  int driver_version = 0;   // CUDA version that the driver supports, 13000 for 13.0; 0: no driver
  int runtime_version = 0;  // of the runtime linked in
};

GpuQuery query_gpus();

}  // namespace moeopt::cuda
