#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "cuda/moe/pack.h"

namespace moeopt::cuda::moe {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kChunkBytes = 16;
constexpr int kChunksPerRow = kBlockBytes / kChunkBytes;
constexpr int kRowsAtOnce = kThreads / kChunksPerRow;
constexpr int kRounds = kTileRows / kRowsAtOnce;
constexpr int kScaleBlock = 128;  // weights in both directions that share a scale

struct Matrix {
  const std::byte* data;
  std::int64_t row_bytes;  // from one row to the next
  const float* scale;      // [rows / 128, columns / 128], fp8 sources alone
};

struct Matrices {
  Matrix gate, up, down;
};

// The row of the first matrix that holds row `index` of the gate or the up matrix: the inverse of
// ExpertLayout::source1.
__device__ int interleaved_row(bool up, int index) {
  return index / 8 * 16 + (up ? 8 : 0) + index % 8;
}

// NOTE: by value and field by field: a reference to one of three parameters would copy all to the
// stack.
__device__ Matrix choose(bool second, const Matrix& a, const Matrix& b) {
  return {second ? b.data : a.data, second ? b.row_bytes : a.row_bytes, second ? b.scale : a.scale};
}

__device__ const uint4* chunk_address(const Matrix& matrix, int row, std::int64_t byte) {
  return reinterpret_cast<const uint4*>(matrix.data + row * matrix.row_bytes + byte);
}

__device__ float* scale_address(std::byte* packed, std::uint64_t tile_offset, int index) {
  return reinterpret_cast<float*>(packed + tile_offset) + index;
}

// Stored elements and packed elements are the same: one block of threads moves one stage image.
template <bool kScaled>
__global__ void __launch_bounds__(kThreads)
    copy_stage_images(ExpertLayout layout, Matrices source, std::byte* packed) {
  const int images1 = layout.tiles1() * layout.blocks1();
  const int image = static_cast<int>(blockIdx.x);
  const bool first = image < images1;
  const int blocks = first ? layout.blocks1() : layout.blocks2();
  const int tile = (first ? image : image - images1) / blocks;
  const int block = (first ? image : image - images1) % blocks;
  const int thread = static_cast<int>(threadIdx.x);
  const int chunk_byte = thread % kChunksPerRow * kChunkBytes;
  const std::int64_t source_byte = std::int64_t{1} * block * kBlockBytes + chunk_byte;

  uint4 chunks[kRounds];
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int row = tile * kTileRows + round * kRowsAtOnce + thread / kChunksPerRow;
    const ExpertLayout::Source from = ExpertLayout::source1(row);
    const Matrix matrix = choose(!first, choose(from.up, source.gate, source.up), source.down);
    const int source_row = first ? from.index : row;
    const bool inside = source_row < (first ? layout.intermediate : layout.hidden);
    chunks[round] = inside ? __ldcs(chunk_address(matrix, source_row, source_byte)) : uint4{};
  }
  std::byte* const target =
      packed + (first ? layout.stage1(tile, block) : layout.stage2(tile, block));
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int row = round * kRowsAtOnce + thread / kChunksPerRow;
    *reinterpret_cast<uint4*>(target + ExpertLayout::swizzled(row, chunk_byte)) = chunks[round];
  }

  if constexpr (kScaled) {
    // A tile of the first matrix holds 64 rows of each matrix: half of a scale block.
    const int scale_row = first ? tile * (kTileRows / 2) / kScaleBlock : tile;
    if (first && thread < 2) {
      const float* scale = thread == 0 ? source.gate.scale : source.up.scale;
      *scale_address(packed, layout.scales1(tile), 2 * block + thread) =
          scale[std::int64_t{1} * scale_row * blocks + block];
    } else if (!first && thread == 0) {
      *scale_address(packed, layout.scales2(tile), block) =
          source.down.scale[std::int64_t{1} * scale_row * blocks + block];
    }
  }
}

__device__ float block_max(float value) {
  __shared__ float warps[kWarps];
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, lane));
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  float largest = warps[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) largest = fmaxf(largest, warps[warp]);
  return largest;
}

__device__ float2 bf16_pair(std::uint32_t bits) {
  return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u)};
}

__device__ float largest_of(const uint4& chunk) {
  float largest = 0.0f;
  for (const std::uint32_t bits : {chunk.x, chunk.y, chunk.z, chunk.w}) {
    const float2 pair = bf16_pair(bits);
    largest = fmaxf(largest, fmaxf(fabsf(pair.x), fabsf(pair.y)));
  }
  return largest;
}

// Two bf16 to two e4m3 of value / scale, the first in the low byte.
__device__ std::uint32_t quantised_pair(std::uint32_t bits, float scale) {
  const float2 pair = bf16_pair(bits);
  const float2 scaled{__fdiv_rn(pair.x, scale), __fdiv_rn(pair.y, scale)};
  return __nv_cvt_float2_to_fp8x2(scaled, __NV_SATFINITE, __NV_E4M3);
}

// Eight bf16 to eight e4m3.
__device__ uint2 quantised(const uint4& chunk, float scale) {
  return {quantised_pair(chunk.x, scale) | quantised_pair(chunk.y, scale) << 16,
          quantised_pair(chunk.z, scale) | quantised_pair(chunk.w, scale) << 16};
}

// bf16 to e4m3: one block of threads makes one 128x128 block of one source matrix and its scale,
// max(|w|, 1e-10) / 448. Grid: the blocks of the gate, of the up and of the down matrix.
__global__ void __launch_bounds__(kThreads)
    quantise_blocks(ExpertLayout layout, Matrices source, std::byte* packed) {
  const int blocks1 = layout.blocks1();
  const int blocks2 = layout.blocks2();
  const int blocks_per_matrix = blocks1 * blocks2;
  const int which = static_cast<int>(blockIdx.x) / blocks_per_matrix;  // gate, up, down
  const int place = static_cast<int>(blockIdx.x) % blocks_per_matrix;
  const bool first = which < 2;
  const int columns = first ? blocks1 : blocks2;
  const int block_row = place / columns;
  const int block = place % columns;
  const Matrix matrix = choose(!first, choose(which == 1, source.gate, source.up), source.down);
  const int thread = static_cast<int>(threadIdx.x);
  const int chunk_byte = thread % kChunksPerRow * kChunkBytes;  // of the packed row
  const std::int64_t source_byte = 2 * (std::int64_t{1} * block * kBlockBytes + chunk_byte);

  uint4 low[kRounds];
  uint4 high[kRounds];
  float largest = 1e-10f;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int row = block_row * kScaleBlock + round * kRowsAtOnce + thread / kChunksPerRow;
    const uint4* const from = chunk_address(matrix, row, source_byte);
    low[round] = __ldcs(from);
    high[round] = __ldcs(from + 1);
    largest = fmaxf(largest, fmaxf(largest_of(low[round]), largest_of(high[round])));
  }
  const float scale = __fdiv_rn(block_max(largest), 448.0f);
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int row = block_row * kScaleBlock + round * kRowsAtOnce + thread / kChunksPerRow;
    const int packed_row = first ? interleaved_row(which == 1, row) : row;
    const int tile = packed_row / kTileRows;
    std::byte* const target =
        packed + (first ? layout.stage1(tile, block) : layout.stage2(tile, block));
    const uint2 a = quantised(low[round], scale);
    const uint2 b = quantised(high[round], scale);
    *reinterpret_cast<uint4*>(
        target + ExpertLayout::swizzled(packed_row % kTileRows, chunk_byte)) = {a.x, a.y, b.x, b.y};
  }
  // The 128 rows of a gate or an up block lie in two tiles.
  if (first && thread < 2) {
    *scale_address(packed, layout.scales1(2 * block_row + thread), 2 * block + which) = scale;
  } else if (!first && thread == 0) {
    *scale_address(packed, layout.scales2(block_row), block) = scale;
  }
}

Matrices matrices_of(const moeopt_expert_source& source) {
  const std::int64_t element = source.source == MOEOPT_SOURCE_FP8 ? 1 : 2;
  const auto matrix = [&](const void* data, std::int64_t stride, const float* scale) {
    return Matrix{static_cast<const std::byte*>(data), stride * element, scale};
  };
  return {matrix(source.gate, source.gate_stride, source.gate_scale),
          matrix(source.up, source.up_stride, source.up_scale),
          matrix(source.down, source.down_stride, source.down_scale)};
}

}  // namespace

cudaError_t pack(const ExpertLayout& layout, const moeopt_expert_source& source, std::byte* packed,
                 cudaStream_t stream) {
  const Matrices matrices = matrices_of(source);
  const std::uint64_t scales = layout.bytes1() + layout.bytes2();
  if (layout.bytes() > scales) {  // the tables' padding
    const cudaError_t error = cudaMemsetAsync(packed + scales, 0, layout.bytes() - scales, stream);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t launch{};
  launch.blockDim = kThreads;
  launch.stream = stream;
  if (source.source == MOEOPT_SOURCE_BF16_TO_FP8) {
    launch.gridDim = static_cast<unsigned>(3 * layout.blocks1() * layout.blocks2());
    return cudaLaunchKernelEx(&launch, quantise_blocks, layout, matrices, packed);
  }
  launch.gridDim = static_cast<unsigned>(layout.tiles1() * layout.blocks1() +
                                         layout.tiles2() * layout.blocks2());
  return source.source == MOEOPT_SOURCE_FP8
             ? cudaLaunchKernelEx(&launch, copy_stage_images<true>, layout, matrices, packed)
             : cudaLaunchKernelEx(&launch, copy_stage_images<false>, layout, matrices, packed);
}

}  // namespace moeopt::cuda::moe
