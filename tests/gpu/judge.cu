#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>

#include "gpu/judge.h"

namespace moeopt::gpu_test {
namespace {

constexpr int kThreads = 256;
constexpr int kFp8Block = 128;
constexpr double kLargestCode = 448;

struct RowError {
  double error2;
  double reference2;
  double largest;  // |reference|
  double scale;
  unsigned wrong_nan;  // elements that are finite on one side alone
  unsigned both_nan;
  unsigned nonzero;
};

__device__ double sum_over_warp(double value) {
  for (int other = 16; other > 0; other /= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
  return value;
}
__device__ double max_over_warp(double value) {
  for (int other = 16; other > 0; other /= 2) {
    value = fmax(value, __shfl_xor_sync(0xffffffffu, value, other));
  }
  return value;
}

// A warp a row.
__global__ void compare_rows(const Bf16Bits* out, std::int64_t stride, const double* reference,
                             const double* scale, int rows, int cols, RowError* errors) {
  const std::int64_t row =
      std::int64_t{1} * blockIdx.x * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double error2 = 0;
  double reference2 = 0;
  double largest = 0;
  unsigned wrong_nan = 0;
  unsigned both_nan = 0;
  unsigned nonzero = 0;
  for (int i = lane; i < cols; i += 32) {
    const double got = __bfloat162float(__ushort_as_bfloat16(out[row * stride + i]));
    const double wanted = reference[row * cols + i];
    nonzero += got != 0;
    if (isfinite(got) && isfinite(wanted)) {
      error2 += (got - wanted) * (got - wanted);
      reference2 += wanted * wanted;
      largest = fmax(largest, fabs(wanted));
    } else if (isnan(got) && isnan(wanted)) {
      ++both_nan;
    } else {
      ++wrong_nan;
    }
  }
  error2 = sum_over_warp(error2);
  reference2 = sum_over_warp(reference2);
  largest = max_over_warp(largest);
  wrong_nan = __reduce_add_sync(0xffffffffu, wrong_nan);
  both_nan = __reduce_add_sync(0xffffffffu, both_nan);
  nonzero = __reduce_add_sync(0xffffffffu, nonzero);
  if (lane == 0) {
    errors[row] = {error2, reference2, largest, scale[row], wrong_nan, both_nan, nonzero};
  }
}

__device__ float fp8_value(Fp8Bits bits) {
  __nv_fp8_e4m3 value;
  value.__x = bits;
  return static_cast<float>(value);
}

// The distance from a code of this magnitude to the next one outwards.
__device__ double e4m3_step(double code) {
  constexpr double kSmallestNormal = 0x1p-6;
  // NOTE: not by log2, which is inexact even at powers of two on the device.
  return code < kSmallestNormal ? 0x1p-9 : scalbn(1.0, ilogb(code) - 3);
}

struct HCounts {
  unsigned long long differing;
  unsigned long long far;  // by more than one step
  unsigned long long bad_scale;
  unsigned worst_scale_bits;  // of a float >= 0: ordered like its value
  unsigned worst_far_bits;    // how far beyond one step, of the largest code; likewise
};

// A block of threads a row. Codes are compared where the scales agree; where those differ by their
// rounding, the codes still may differ by one step at most.
__global__ void compare_h(const Fp8Bits* h, const float* h_scale, const std::int32_t* kernel_row,
                          const double* reference, const float* reference_scale, int cols,
                          double scale_bound, double dropped, HCounts* counts) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t from = kernel_row[row];
  const int across = cols / kFp8Block;
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += kThreads) {
    const double scale = h_scale[from * across + i / kFp8Block];
    const double wanted_scale = reference_scale[row * across + i / kFp8Block];
    const double got = fp8_value(h[from * cols + i]);
    // NOTE: a code, rounded back to one: just below a power of two the step would be half of what
    // it is.
    const double wanted = rint(reference[row * cols + i] / wanted_scale * 512) / 512;
    if (isnan(got) && isnan(wanted)) continue;  // a token of NaN
    if (i % kFp8Block == 0) {
      const double error = fabs(scale - wanted_scale) / wanted_scale;
      if (!(error <= scale_bound)) atomicAdd(&counts->bad_scale, 1ull);
      atomicMax(&counts->worst_scale_bits, __float_as_uint(static_cast<float>(error)));
    }
    if (got == wanted) continue;  // codes are multiples of 2^-9
    atomicAdd(&counts->differing, 1ull);
    const double step = e4m3_step(fmin(fabs(got), fabs(wanted)));
    const double beyond = fabs(got - wanted) - 1.001 * step;
    if (!(beyond <= dropped)) atomicAdd(&counts->far, 1ull);
    if (beyond > 0) {
      atomicMax(&counts->worst_far_bits,
                __float_as_uint(static_cast<float>(beyond / kLargestCode)));
    }
  }
}

__global__ void dequantise(const Fp8Bits* h, const float* h_scale, const std::int32_t* kernel_row,
                           int cols, float* to) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t from = kernel_row[row];
  const int across = cols / kFp8Block;
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += kThreads) {
    to[row * cols + i] =
        from < 0 ? 0.0f : fp8_value(h[from * cols + i]) * h_scale[from * across + i / kFp8Block];
  }
}

double bf16_step(double value) {
  return value > 0 ? std::exp2(std::floor(std::log2(value)) - 7) : 0;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g", value);
  return text;
}

std::string row_text(int row, const std::string& what) {
  return "row " + std::to_string(row) + ": " + what;
}

}  // namespace

Verdict judge_output(Arena& arena, const Bf16Bits* out, std::int64_t out_stride, int rows,
                     int hidden, const ReferenceRun& reference, const std::vector<bool>& empty_rows,
                     const Bounds& bounds) {
  Verdict verdict;
  if (rows == 0) return verdict;
  const Arena::Scope scope(arena);
  auto* const device_errors = arena.take<RowError>(static_cast<std::size_t>(rows));
  const auto blocks = static_cast<unsigned>((rows + kThreads / 32 - 1) / (kThreads / 32));
  compare_rows<<<blocks, kThreads, 0, arena.stream().get()>>>(
      out, out_stride, reference.out, reference.scale, rows, hidden, device_errors);
  check(cudaGetLastError(), "compare_rows");
  const std::vector<RowError> errors =
      arena.download(device_errors, static_cast<std::size_t>(rows));

  const auto fault = [&verdict](const std::string& text) {
    if (!verdict.fault) verdict.fault = text;
  };
  double error2 = 0;
  double reference2 = 0;
  double largest = 0;
  int rare = 0;
  for (int r = 0; r < rows; ++r) {
    const RowError& e = errors[static_cast<std::size_t>(r)];
    if (e.wrong_nan > 0) {
      fault(row_text(r, std::to_string(e.wrong_nan) + " values are not finite, or should not be"));
      continue;
    }
    if (e.both_nan > 0) continue;
    if (empty_rows[static_cast<std::size_t>(r)] && e.nonzero > 0) {
      fault(row_text(r, "not exactly zero, without an expert here"));
    }
    const double size = std::max(std::sqrt(e.reference2), e.scale);
    const double error = std::sqrt(e.error2);
    if (!(error <= std::hypot(bounds.row * size, bf16_step(e.largest)))) {
      ++rare;
      const bool bearable = error <= std::hypot(bounds.rare_row * size, bf16_step(e.largest));
      if (!bearable || rare > std::max(kRareAnyway, rows / kRareRows)) {
        fault(row_text(r, "error " + number(error / size) + " > " + number(bounds.row)));
      }
    }
    if (size > 0) verdict.worst_row = std::max(verdict.worst_row, error / size);
    error2 += e.error2;
    reference2 += e.reference2;
    largest = std::max(largest, e.largest);
  }
  if (reference2 > 0) verdict.frobenius = std::sqrt(error2 / reference2);
  if (!(std::sqrt(error2) <=
        std::hypot(bounds.frobenius * std::sqrt(reference2), bf16_step(largest)))) {
    fault("Frobenius error " + number(verdict.frobenius) + " > " + number(bounds.frobenius));
  }
  return verdict;
}

HVerdict judge_h(Arena& arena, const Fp8Bits* h, const float* h_scale,
                 const std::int32_t* kernel_row, const double* reference_h,
                 const float* reference_scale, int rows, int cols) {
  HVerdict verdict;
  if (rows == 0) return verdict;
  const Arena::Scope scope(arena);
  auto* const device_counts = arena.upload(std::vector<HCounts>(1));
  compare_h<<<static_cast<unsigned>(rows), kThreads, 0, arena.stream().get()>>>(
      h, h_scale, kernel_row, reference_h, reference_scale, cols, kHBounds.scale,
      kLargestCode * kHBounds.dropped, device_counts);
  check(cudaGetLastError(), "compare_h");
  const HCounts counts = arena.download(device_counts, 1)[0];
  const double values = static_cast<double>(rows) * cols;
  verdict.differing = static_cast<double>(counts.differing) / values;
  verdict.worst_scale = std::bit_cast<float>(counts.worst_scale_bits);
  verdict.dropped = std::bit_cast<float>(counts.worst_far_bits);
  if (counts.bad_scale > 0) {
    verdict.fault = std::to_string(counts.bad_scale) + " scales of h are off, the worst by " +
                    number(verdict.worst_scale);
  } else if (counts.far > 0) {
    verdict.fault = std::to_string(counts.far) + " values of h are off by more than an e4m3 step" +
                    ", the worst by " + number(verdict.dropped) + " of the largest more";
  } else if (static_cast<double>(counts.differing) > kHBounds.differing * values + 4) {
    verdict.fault = "of h " + number(100 * verdict.differing) + "% differ";  // 4: in tiny cases
  }
  return verdict;
}

void dequantise_rows(Arena& arena, const Fp8Bits* h, const float* h_scale,
                     const std::int32_t* kernel_row, int rows, int cols, float* to) {
  if (rows == 0) return;
  dequantise<<<static_cast<unsigned>(rows), kThreads, 0, arena.stream().get()>>>(
      h, h_scale, kernel_row, cols, to);
  check(cudaGetLastError(), "dequantise");
}

}  // namespace moeopt::gpu_test
