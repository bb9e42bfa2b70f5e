// The kernels for AVX2 with FMA and F16C.
// May include the unnamed-namespace headers of this folder alone: see lanes.h.
#include "cpu/fast/kernels.h"
#if defined(__x86_64__)
#include "cpu/fast/attention_lanes.h"
#include "cpu/fast/elementwise.h"
#include "cpu/fast/wide_product.h"

namespace moeopt::cpu::fast {
namespace {

std::size_t packed_tile_bytes(Packing /*packing*/, int k) {
  return packed_float_tile_bytes(k);
}

void pack_tile(Packing packing, const float* const* rows, int n_rows, int k, void* out) {
  pack_float_tile(packing != Packing::kExact, rows, n_rows, k, out);
}

void product(Packing /*packing*/, WeightKind kind, const Strip& strip, const void* packed,
             int n_rows, float* out, std::size_t out_stride, void* scratch, Upcoming next) {
  float_product(kind, strip, packed, n_rows, out, out_stride, scratch, next);
}

}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels kKernels = {
      .packed_tile_bytes = packed_tile_bytes,
      .pack_tile = pack_tile,
      .product = product,
      .swiglu = swiglu,
      .add_scaled = add_scaled,
      .rms_norm = rms_norm,
      .to_bf16 = to_bf16,
      .from_bf16 = from_bf16,
      .weighted_sum = weighted_sum,
      .rotate = rotate,
      .attention_scratch_bytes = lanes_attention_scratch_bytes,
      .attention = lanes_attention,
  };
  return kKernels;
}

}  // namespace moeopt::cpu::fast

#endif
