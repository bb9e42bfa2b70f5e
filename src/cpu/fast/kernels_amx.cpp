// The kernels for AMX: weights are operand A as stored (16 features by 32 inputs), packed
// activations operand B (16 pairs of inputs by 16 rows), so a product is [features, rows].
// May include the unnamed-namespace headers of this folder alone: see lanes.h.
// Invariant: a tile sums K in ascending order; between blocks of K it rests in memory as float32,
// exactly, so blocking does not show in a result.
#include "cpu/fast/kernels.h"

#if defined(__x86_64__)

#include "cpu/fast/amx_attention.h"
#include "cpu/fast/amx_product.h"
#include "cpu/fast/elementwise.h"
#include "cpu/fast/wide_product.h"

namespace moeopt::cpu::fast {
namespace {

std::size_t packed_tile_bytes(Packing packing, int k) {
  return packing == Packing::kPairs ? amx_packed_tile_bytes(k) : packed_float_tile_bytes(k);
}

void pack_tile(Packing packing, const float* const* rows, int n_rows, int k, void* out) {
  if (packing == Packing::kPairs) {
    amx_pack_tile(rows, n_rows, k, static_cast<unsigned char*>(out));
  } else {
    pack_float_tile(packing == Packing::kRounded, rows, n_rows, k, out);
  }
}

void product(Packing packing, WeightKind kind, const Strip& strip, const void* packed, int n_rows,
             float* out, std::size_t out_stride, void* scratch, Upcoming next) {
  if (packing == Packing::kPairs) {
    amx_product(kind, strip, static_cast<const unsigned char*>(packed), n_rows, out, out_stride,
                static_cast<unsigned char*>(scratch), next);
  } else {
    float_product(kind, strip, packed, n_rows, out, out_stride, scratch, next);
  }
}

}  // namespace

const Kernels& amx_kernels() {
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
      .attention_scratch_bytes = amx_attention_scratch_bytes,
      .attention = amx_attention,
  };
  return kKernels;
}

}  // namespace moeopt::cpu::fast

#endif
