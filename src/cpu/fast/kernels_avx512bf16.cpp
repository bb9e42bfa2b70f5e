// The kernels for AVX-512 with BF16 dot products.
// May include the unnamed-namespace headers of this folder alone: see lanes.h.
#include "cpu/fast/kernels.h"

#if defined(__x86_64__)

#include "cpu/fast/attention_lanes.h"
#include "cpu/fast/bf16_dot.h"
#include "cpu/fast/elementwise.h"
#include "cpu/fast/wide_product.h"

namespace moeopt::cpu::fast {
namespace {

std::size_t packed_tile_bytes(Packing packing, int k) {
  return packing == Packing::kPairs ? kTileRows * padded_inputs(k) * 2 : packed_float_tile_bytes(k);
}

void pack_tile(Packing packing, const float* const* rows, int n_rows, int k, void* out) {
  if (packing != Packing::kPairs) {
    pack_float_tile(packing == Packing::kRounded, rows, n_rows, k, out);
    return;
  }
  const std::size_t row_bytes = padded_inputs(k) * 2;
  for (int r = 0; r < n_rows; ++r) {
    auto* to = static_cast<unsigned char*>(out) + skip(r, row_bytes);
    for (int i = 0; i < k; i += 32, to += 64) {
      _mm512_storeu_si512(
          to, i + 32 <= k ? load_as_bf16(rows[r] + i) : load_some_as_bf16(rows[r] + i, k - i));
    }
  }
}

void product(Packing packing, WeightKind kind, const Strip& strip, const void* packed, int n_rows,
             float* out, std::size_t out_stride, void* scratch, Upcoming next) {
  if (packing != Packing::kPairs) {
    float_product(kind, strip, packed, n_rows, out, out_stride, scratch, next);
  } else if (kind == WeightKind::kBf16) {
    dot_product<Bf16Dot<WeightKind::kBf16>>(strip, packed, n_rows, out, out_stride, next);
  } else {
    dot_product<Bf16Dot<WeightKind::kE4m3>>(strip, packed, n_rows, out, out_stride, next);
  }
}

}  // namespace

const Kernels& avx512bf16_kernels() {
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
