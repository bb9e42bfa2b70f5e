// The choice among the compiled tiles.
#include "cuda/moe/launch.h"
#include "cuda/moe/variants.h"

namespace moeopt::cuda::moe {

#if defined(MOEOPT_MOE_TRACE)
extern "C" __attribute__((visibility("default"))) cudaError_t moeopt_moe_set_trace(void* buffer) {
  for (const auto set : {set_trace<Bf16N8>, set_trace<Bf16N32>, set_trace<Bf16N64>,
                         set_trace<Bf16N128>, set_trace<Fp8N8>, set_trace<Fp8N32>,
                         set_trace<Fp8N32Long>, set_trace<Fp8N64>, set_trace<Fp8N128>}) {
    if (const cudaError_t error = set(buffer); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
#endif

cudaError_t launch(const Config& config, const Params& params, int blocks, cudaStream_t stream) {
  const Variant& v = config.variant;
  if (v.dtype == Dtype::kBf16) {
    if (v.n_max == 8) return launch_variant<Bf16N8>(params, blocks, stream);
    if (v.n_max == 32) return launch_variant<Bf16N32>(params, blocks, stream);
    if (v.n_max == 64) return launch_variant<Bf16N64>(params, blocks, stream);
    return launch_variant<Bf16N128>(params, blocks, stream);
  }
  if (v.n_max == 8) return launch_variant<Fp8N8>(params, blocks, stream);
  if (v.second_tiles == 1) return launch_variant<Fp8N32Long>(params, blocks, stream);
  if (v.n_max == 32) return launch_variant<Fp8N32>(params, blocks, stream);
  if (v.n_max == 64) return launch_variant<Fp8N64>(params, blocks, stream);
  return launch_variant<Fp8N128>(params, blocks, stream);
}

}  // namespace moeopt::cuda::moe
