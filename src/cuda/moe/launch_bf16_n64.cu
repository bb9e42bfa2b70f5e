// One compiled tile (variants.h).
#include "cuda/moe/launch_variant.cuh"

namespace moeopt::cuda::moe {

template cudaError_t launch_variant<Bf16N64>(const Params&, int, cudaStream_t);
template cudaError_t set_trace<Bf16N64>(void*);

}  // namespace moeopt::cuda::moe
