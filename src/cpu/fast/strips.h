// Matrices cut into the strips that a product call takes, and how their inputs are packed.
// Invariant: a strip's scales are those of one row of scale blocks.
#pragma once

#include "cpu/fast/kernels.h"
#include "cpu/ops.h"

namespace moeopt::cpu::fast {

WeightKind kind_of(const Matrix& w);

// The stored contract (cpu/ops.h): all but f32 weights read inputs rounded to bf16.
inline bool rounds_inputs(const Matrix& w) {
  return kind_of(w) != WeightKind::kF32;
}

Packing packing_for(WeightKind kind, bool round_inputs);

inline int strips_of(int features) {
  return (features + kStripFeatures - 1) / kStripFeatures;
}
inline int scale_blocks(int inputs) {
  return (inputs + kScaleBlock - 1) / kScaleBlock;
}
inline int tiles_of_rows(int rows) {
  return (rows + kTileRows - 1) / kTileRows;
}

// Rows of one product call: as many as keep the packed rows in a 2 MiB second-level cache, beside
// the weights that stream through it.
int block_rows(const Kernels& kernels, Packing packing, int inputs);

// Scale of the block that holds (row, column) of an e4m3 matrix.
float scale_at(const Matrix& w, int row, int column);

// Rows [first, first + kStripFeatures) of w, fewer where `end` or, for e4m3, a scale block ends.
// `scales`: room for scale_blocks(w.in()), written for e4m3 and kept with the strip.
Strip strip_at(const Matrix& w, int first, int end, float* scales);

// The bytes that strip_at(w, first, end) would cover.
Upcoming upcoming_strip(const Matrix& w, int first, int end);

}  // namespace moeopt::cpu::fast
