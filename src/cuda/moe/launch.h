// The only door to the kernel. Enqueues exactly one launch of params on the stream and returns what
// CUDA said.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/moe/config.h"
#include "cuda/moe/params.h"

namespace moeopt::cuda::moe {

// `blocks`: one per multiprocessor of the current device is the intended number; any number >= 1 is
// right.
cudaError_t launch(const Config& config, const Params& params, int blocks, cudaStream_t stream);

}  // namespace moeopt::cuda::moe
