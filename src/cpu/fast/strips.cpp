#include "cpu/fast/strips.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace moeopt::cpu::fast {
namespace {

int features_at(const Matrix& w, int first, int end) {
  int features = std::min(kStripFeatures, end - first);
  if (w.weight.dtype == DType::kF8E4M3) {
    features = std::min(features, kScaleBlock - first % kScaleBlock);
  }
  return features;
}

std::size_t stride_bytes(const Matrix& w) {
  return static_cast<std::size_t>(w.in()) * dtype_bytes(w.weight.dtype);
}

const unsigned char* row_bytes(const Matrix& w, int row) {
  return reinterpret_cast<const unsigned char*>(w.weight.data) +
         static_cast<std::size_t>(row) * stride_bytes(w);
}

}  // namespace

WeightKind kind_of(const Matrix& w) {
  switch (w.weight.dtype) {
    case DType::kF32:
      return WeightKind::kF32;
    case DType::kF16:
      return WeightKind::kF16;
    case DType::kBF16:
      return WeightKind::kBf16;
    default:
      break;
  }
  MOEOPT_CHECK(w.weight.dtype == DType::kF8E4M3);
  return WeightKind::kE4m3;
}

Packing packing_for(WeightKind kind, bool round_inputs) {
  if (!round_inputs) return Packing::kExact;
  const bool pairs = kind == WeightKind::kBf16 || kind == WeightKind::kE4m3;
  return pairs ? Packing::kPairs : Packing::kRounded;
}

int block_rows(const Kernels& kernels, Packing packing, int inputs) {
  const std::size_t wide_bytes =
      std::size_t{kTileRows} * sizeof(float) * static_cast<std::size_t>(inputs);
  // Float32 rows are read once for each few features, pairs once for a whole strip: they must stay.
  const bool wide = kernels.packed_tile_bytes(packing, inputs) >= wide_bytes;
  const int elements = (1 << 20) / (wide ? 4 : 2);
  const int rows = elements / std::max(1, inputs) / (2 * kTileRows) * (2 * kTileRows);
  return std::clamp(rows, 2 * kTileRows, kBlockRows);
}

float scale_at(const Matrix& w, int row, int column) {
  const std::size_t index =
      static_cast<std::size_t>(row / kScaleBlock) * static_cast<std::size_t>(scale_blocks(w.in())) +
      static_cast<std::size_t>(column / kScaleBlock);
  if (w.scale_inv.dtype == DType::kBF16) {
    Bf16 scale;
    std::memcpy(&scale, w.scale_inv.data + index * sizeof(scale), sizeof(scale));
    return to_float(scale);
  }
  MOEOPT_CHECK(w.scale_inv.dtype == DType::kF32);
  float scale;
  std::memcpy(&scale, w.scale_inv.data + index * sizeof(scale), sizeof(scale));
  return scale;
}

Strip strip_at(const Matrix& w, int first, int end, float* scales) {
  Strip strip;
  strip.weights = row_bytes(w, first);
  strip.stride_bytes = stride_bytes(w);
  strip.features = features_at(w, first, end);
  strip.k = w.in();
  if (w.weight.dtype == DType::kF8E4M3) {
    for (int block = 0; block < scale_blocks(w.in()); ++block) {
      scales[block] = scale_at(w, first, block * kScaleBlock);
    }
    strip.scales = scales;
  }
  return strip;
}

Upcoming upcoming_strip(const Matrix& w, int first, int end) {
  return {row_bytes(w, first),
          static_cast<std::size_t>(features_at(w, first, end)) * stride_bytes(w)};
}

}  // namespace moeopt::cpu::fast
