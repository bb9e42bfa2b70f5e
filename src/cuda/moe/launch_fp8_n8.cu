// One compiled tile (variants.h).
#include "cuda/moe/launch_variant.cuh"

namespace moeopt::cuda::moe {

template cudaError_t launch_variant<Fp8N8>(const Params&, int, cudaStream_t);
template cudaError_t set_trace<Fp8N8>(void*);

}  // namespace moeopt::cuda::moe
