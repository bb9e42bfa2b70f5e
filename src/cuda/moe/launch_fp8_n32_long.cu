// One compiled tile (variants.h).
#include "cuda/moe/launch_variant.cuh"

namespace moeopt::cuda::moe {

template cudaError_t launch_variant<Fp8N32Long>(const Params&, int, cudaStream_t);
template cudaError_t set_trace<Fp8N32Long>(void*);

}  // namespace moeopt::cuda::moe
