#include <cuda_runtime.h>

#include "cuda/device_query.h"

namespace moeopt::cuda {

GpuQuery query_gpus() {
  GpuQuery query;
  cudaDriverGetVersion(&query.driver_version);
  cudaRuntimeGetVersion(&query.runtime_version);
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    query.problem = cudaGetErrorString(error);
    return query;
  }
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, device);
        error != cudaSuccess) {
      query.problem = cudaGetErrorString(error);
      return query;
    }
    query.gpus.push_back(
        {properties.name, properties.major * 10 + properties.minor, properties.totalGlobalMem});
  }
  if (query.gpus.empty()) query.problem = "no CUDA device";
  return query;
}

}  // namespace moeopt::cuda
