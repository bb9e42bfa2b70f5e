// The device code of the float64 reference.
// Invariant: no value is rounded here but by round_to_bf16 and by quantise.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "gpu/reference.h"

namespace moeopt::gpu_test {

inline constexpr int kFp8Block = 128;
inline constexpr int kTile = 64;  // pairs, and columns, that a block of threads multiplies
inline constexpr int kStep = 16;  // of K at a time
inline constexpr int kThreads = 256;
inline constexpr int kPadded = kTile + 2;

// Up to kTile pairs of one expert.
struct Tile {
  int expert;
  int first_pair;
  int pairs;
};

// One rounding, from double: through a float rounded to odd.
__device__ inline double round_to_bf16(double value) {
  float nearest = __double2float_rn(value);
  if (isfinite(nearest) && static_cast<double>(nearest) != value) {
    nearest = __uint_as_float(__float_as_uint(__double2float_rz(value)) | 1u);
  }
  return __bfloat162float(__float2bfloat16_rn(nearest));
}

__device__ inline double silu(double g) {
  return g / (1.0 + exp(-g));
}

__device__ inline double bf16_value(Bf16Bits bits) {
  return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
}
__device__ inline double fp8_value(Fp8Bits bits) {
  __nv_fp8_e4m3 value;
  value.__x = bits;
  return static_cast<float>(value);
}

// Four consecutive weights of matrix `expert`, row `row`, from column `col` on.
template <bool kFp8>
__device__ void load_weights(const MatrixSet& w, int expert, int row, int col, double (&to)[4]) {
  const std::int64_t at = (std::int64_t{1} * expert * w.rows + row) * w.stride + col;
  if constexpr (kFp8) {
    const uchar4 bits = *reinterpret_cast<const uchar4*>(static_cast<const Fp8Bits*>(w.data) + at);
    const std::int64_t across = w.cols / kFp8Block;
    const std::int64_t down = w.rows / kFp8Block;
    const double scale = w.scale[(expert * down + row / kFp8Block) * across + col / kFp8Block];
    to[0] = fp8_value(bits.x) * scale;
    to[1] = fp8_value(bits.y) * scale;
    to[2] = fp8_value(bits.z) * scale;
    to[3] = fp8_value(bits.w) * scale;
  } else {
    const ushort4 bits =
        *reinterpret_cast<const ushort4*>(static_cast<const Bf16Bits*>(w.data) + at);
    to[0] = bf16_value(bits.x);
    to[1] = bf16_value(bits.y);
    to[2] = bf16_value(bits.z);
    to[3] = bf16_value(bits.w);
  }
}

// What a product reads and writes. out[pair][n] = (W a)[n], or with kGated silu(W a) * (W2 a).
struct Product {
  const double* a;            // [.., k]
  const std::int32_t* a_row;  // of a pair; null: the pair's own number
  MatrixSet w, w2;            // [n, k] each
  double* out;                // [pairs, n]
  int n, k;
};

template <bool kFp8, bool kGated>
__global__ void __launch_bounds__(kThreads, 2) multiply(Product p, const Tile* tiles) {
  constexpr int kMatrices = kGated ? 2 : 1;
  __shared__ double a_tile[kStep][kPadded];
  __shared__ double w_tile[kMatrices][kStep][kPadded];
  const Tile tile = tiles[blockIdx.y];
  const int first_n = static_cast<int>(blockIdx.x) * kTile;
  const int thread = static_cast<int>(threadIdx.x);

  // Loading: a row of 16 by four threads.
  const int line = thread / 4;
  const int k_offset = thread % 4 * 4;
  const bool has_a = line < tile.pairs;
  const int pair = tile.first_pair + (has_a ? line : 0);
  const double* const a_line =
      p.a + std::int64_t{1} * (p.a_row != nullptr ? p.a_row[pair] : pair) * p.k + k_offset;
  const bool has_w = first_n + line < p.n;
  const int w_line = has_w ? first_n + line : 0;

  // Multiplying: 4 x 4 results a thread; a warp owns 8 pairs, and rests when there are none.
  const int row = thread / 16 * 4;
  const int col = thread % 16 * 4;
  const bool busy = thread / 32 * 8 < tile.pairs;
  double sum[kMatrices][4][4] = {};

  for (int k = 0; k < p.k; k += kStep) {
    double a_part[4] = {};
    double w_part[kMatrices][4] = {};
    if (has_a) {
      for (int i = 0; i < 4; ++i) a_part[i] = a_line[k + i];
    }
    if (has_w) {
      load_weights<kFp8>(p.w, tile.expert, w_line, k + k_offset, w_part[0]);
      if constexpr (kGated) {
        load_weights<kFp8>(p.w2, tile.expert, w_line, k + k_offset, w_part[1]);
      }
    }
    __syncthreads();
    for (int i = 0; i < 4; ++i) {
      a_tile[k_offset + i][line] = a_part[i];
      for (int m = 0; m < kMatrices; ++m) w_tile[m][k_offset + i][line] = w_part[m][i];
    }
    __syncthreads();
    if (!busy) continue;
#pragma unroll
    for (int step = 0; step < kStep; ++step) {
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            sum[m][i][j] += a_tile[step][row + i] * w_tile[m][step][col + j];
          }
        }
      }
    }
  }

#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (row + i >= tile.pairs) continue;
    double* const to = p.out + std::int64_t{1} * (tile.first_pair + row + i) * p.n + first_n + col;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (first_n + col + j >= p.n) continue;
      if constexpr (kGated) {
        to[j] = silu(sum[0][i][j]) * sum[1][i][j];
      } else {
        to[j] = sum[0][i][j];
      }
    }
  }
}

__global__ void widen_rows(const Bf16Bits* x, std::int64_t stride, int cols, double* to) {
  const std::int64_t row = blockIdx.x;
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += kThreads) {
    to[row * cols + i] = bf16_value(x[row * stride + i]);
  }
}

__global__ void round_rows_to_bf16(double* values, int cols) {
  double* const row = values + std::int64_t{1} * blockIdx.x * cols;
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += kThreads) {
    row[i] = round_to_bf16(row[i]);
  }
}

// To e4m3 with a scale per 128 and back: scale = max(|v|, 1e-10) / 448 and v / scale in float32, as
// the contract says. A warp a block of 128; NaN stays NaN. `scales` may be null.
__global__ void quantise_rows(double* values, int cols, float* scales) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int across = cols / kFp8Block;
  for (int block = static_cast<int>(threadIdx.x) / 32; block < across; block += kThreads / 32) {
    double* const at = values + std::int64_t{1} * blockIdx.x * cols + block * kFp8Block;
    float mine[4];
    float largest = 1e-10f;
    for (int i = 0; i < 4; ++i) {
      mine[i] = __double2float_rn(at[lane + 32 * i]);
      largest = fmaxf(largest, fabsf(mine[i]));
    }
    for (int other = 16; other > 0; other /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, other));
    }
    const float scale = __fdiv_rn(largest, 448.0f);
    if (scales != nullptr && lane == 0)
      scales[std::int64_t{1} * blockIdx.x * across + block] = scale;
    for (int i = 0; i < 4; ++i) {
      const float scaled = __fdiv_rn(mine[i], scale);
      const double code = fp8_value(__nv_cvt_float_to_fp8(scaled, __NV_SATFINITE, __NV_E4M3));
      at[lane + 32 * i] = code * static_cast<double>(scale);
    }
  }
}

__global__ void widen_given(const float* given, const std::int32_t* place_of_pair, int cols,
                            double* to) {
  const std::int64_t from = place_of_pair != nullptr ? place_of_pair[blockIdx.x] : blockIdx.x;
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += kThreads) {
    to[std::int64_t{1} * blockIdx.x * cols + i] = given[from * cols + i];
  }
}

// The sum over a block of threads, in every thread.
__device__ inline double sum_over_block(double value) {
  __shared__ double warps[kThreads / 32];
  for (int other = 16; other > 0; other /= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
  for (int i = 0; i < kThreads / 32; ++i) sum += warps[i];
  return sum;
}

// 1 / (1 + exp(-S x)) of each row
__global__ void shared_weights(const double* x, const Bf16Bits* gate, int cols, double* to) {
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += kThreads) {
    sum += x[std::int64_t{1} * blockIdx.x * cols + i] * bf16_value(gate[i]);
  }
  sum = sum_over_block(sum);
  if (threadIdx.x == 0) to[blockIdx.x] = 1.0 / (1.0 + exp(-sum));
}

struct Combination {
  const double* y;                    // [pairs, cols]
  const std::int32_t* pair_of_place;  // [rows, top_k]
  const double* weights;              // [rows, top_k]
  const double* shared_y;             // [rows, cols]; null: none
  const double* shared_weight;        // [rows]; null: 1
  double* out;                        // [rows, cols]
  double* scale;                      // [rows]
  int top_k, cols;
  bool round;
};

__global__ void combine(Combination c) {
  const std::int64_t row = blockIdx.x;
  const double shared_weight = c.shared_weight != nullptr ? c.shared_weight[row] : 1.0;
  double scale = 0;
  for (int slot = 0; slot < c.top_k; ++slot) {
    const std::int64_t pair = c.pair_of_place[row * c.top_k + slot];
    if (pair < 0) continue;
    double square = 0;
    for (int i = static_cast<int>(threadIdx.x); i < c.cols; i += kThreads) {
      square += c.y[pair * c.cols + i] * c.y[pair * c.cols + i];
    }
    scale += fabs(c.weights[row * c.top_k + slot]) * sqrt(sum_over_block(square));
  }
  if (c.shared_y != nullptr) {
    double square = 0;
    for (int i = static_cast<int>(threadIdx.x); i < c.cols; i += kThreads) {
      square += c.shared_y[row * c.cols + i] * c.shared_y[row * c.cols + i];
    }
    scale += shared_weight * sqrt(sum_over_block(square));
  }
  if (threadIdx.x == 0) c.scale[row] = scale;

  for (int i = static_cast<int>(threadIdx.x); i < c.cols; i += kThreads) {
    double sum = 0;
    for (int slot = 0; slot < c.top_k; ++slot) {
      const std::int64_t pair = c.pair_of_place[row * c.top_k + slot];
      if (pair >= 0) sum += c.weights[row * c.top_k + slot] * c.y[pair * c.cols + i];
    }
    if (c.shared_y != nullptr) sum += shared_weight * c.shared_y[row * c.cols + i];
    c.out[row * c.cols + i] = c.round ? round_to_bf16(sum) : sum;
  }
}

}  // namespace moeopt::gpu_test
