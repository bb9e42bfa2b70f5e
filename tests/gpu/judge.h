// Whether an output is right: errors row by row against the float64 reference, and the bounds.
// Invariant: a value that is not finite never passes unless the reference has none there either,
// and a bound depends on the dtype alone, never on the shape.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpu/device.h"
#include "gpu/fill.h"
#include "gpu/reference.h"

namespace moeopt::gpu_test {

// Of the output: relative Frobenius error, and the worst row's ||error|| / max(||ref||, sum |w|
// ||y||). Both allow, besides, one element to lie one bf16 step off: a value at the boundary of two
// may fall either way, which in a row of 64 is as much as the whole bound.
struct Bounds {
  double frobenius;
  double row;
  double rare_row;  // what one row of kRareRows may reach (kRareAnyway in any case): where one
                    // value of h dominates a row, and falls to the other side of its rounding
};
inline constexpr int kRareRows = 500;
inline constexpr int kRareAnyway = 2;  // measured on a right kernel: of 274 rows, I = 64, once two
// Measured on right kernels: Frobenius up to 1.6e-3 (H = 7168: what wgmma drops along K turns
// roundings of h, of y and of the output over, each the square root of the one before), rows up
// to 3.0e-3.
inline constexpr Bounds kBf16Bounds{2e-3, 4e-3, 8e-3};
// fp8, stage (b): against float64 that was fed the kernel's own h.
inline constexpr Bounds kFp8Bounds{2e-3, 4e-3, 4e-3};
// fp8, stage (a): the kernel's h against the specification's.
// A value may also lie off by this part of its block's largest: what the tensor core drops within
// 128 products is as much for a small value, whose own step is smaller.
struct HBounds {
  double differing;  // part of the values
  double scale;      // relative error of a scale
  double dropped;
};
// Measured on a right kernel: up to 8.4e-4 in 1e8 values, once 1.1e-3 in 2e8.
inline constexpr HBounds kHBounds{0.03, 0x1p-7, 1.5 * 0x1p-10};

struct Verdict {
  double frobenius = 0;
  double worst_row = 0;
  std::optional<std::string> fault;
};

// out: [rows, hidden] bf16. empty_rows[r]: row r has no expert here and must be exactly zero.
Verdict judge_output(Arena& arena, const Bf16Bits* out, std::int64_t out_stride, int rows,
                     int hidden, const ReferenceRun& reference, const std::vector<bool>& empty_rows,
                     const Bounds& bounds);

// The kernel's h as e4m3 and scales, row `kernel_row[i]` of it, against row i of the
// specification's.
struct HVerdict {
  double differing = 0;    // part of the values that differ
  double worst_scale = 0;  // relative error
  double dropped = 0;      // the most that a value lies off beyond one step, of the largest code
  std::optional<std::string> fault;
};
HVerdict judge_h(Arena& arena, const Fp8Bits* h, const float* h_scale,
                 const std::int32_t* kernel_row, const double* reference_h,
                 const float* reference_scale, int rows, int cols);

// to[i] = row kernel_row[i] of h times its scales, `cols` wide; zeros where kernel_row[i] is -1.
void dequantise_rows(Arena& arena, const Fp8Bits* h, const float* h_scale,
                     const std::int32_t* kernel_row, int rows, int cols, float* to);

}  // namespace moeopt::gpu_test
