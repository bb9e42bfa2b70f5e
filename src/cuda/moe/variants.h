// The compiled tiles. Owned here: their sizes. Each is instantiated in a file of its own
// (launch_*.cu), so that they compile beside each other. Read by the launcher and by those files.
#pragma once

#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

using Bf16N8 = Tile<Dtype::kBf16, 1, 8, 6, 6, 3>;
using Bf16N32 = Tile<Dtype::kBf16, 1, 32, 5, 4, 3>;
using Bf16N64 = Tile<Dtype::kBf16, 2, 64, 5, 5, 2>;
using Bf16N128 = Tile<Dtype::kBf16, 2, 128, 4, 4, 4>;
using Fp8N8 = Tile<Dtype::kFp8, 1, 8, 6, 6, 3>;
using Fp8N32 = Tile<Dtype::kFp8, 2, 32, 5, 6, 3>;
using Fp8N32Long = Tile<Dtype::kFp8, 2, 32, 5, 6, 3, 1>;
using Fp8N64 = Tile<Dtype::kFp8, 2, 64, 5, 3, 2>;
using Fp8N128 = Tile<Dtype::kFp8, 2, 128, 4, 4, 4>;

// Defined in launch_variant.cuh. Enqueues one launch; returns what CUDA said.
template <typename T>
cudaError_t launch_variant(const Params& params, int blocks, cudaStream_t stream);
// Trace builds: where this tile's kernel puts its records.
template <typename T>
cudaError_t set_trace(void* buffer);

}  // namespace moeopt::cuda::moe
