// Packs one expert's matrices into the layout of layout.h, on the device.
// Invariant: every byte of the packed expert is written, and depends on the source's values alone.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "cuda/moe/layout.h"
#include "moeopt.h"

namespace moeopt::cuda::moe {

// `source` as check_source returned it for this layout; packed: layout.bytes() on the current
// device. Enqueues at most two operations on the stream.
cudaError_t pack(const ExpertLayout& layout, const moeopt_expert_source& source, std::byte* packed,
                 cudaStream_t stream);

}  // namespace moeopt::cuda::moe
