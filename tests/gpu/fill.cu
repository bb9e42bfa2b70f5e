#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>

#include "gpu/device.h"
#include "gpu/fill.h"

namespace moeopt::gpu_test {
namespace {

constexpr int kThreads = 256;
constexpr int kFp8Block = 128;

unsigned blocks_for(std::int64_t items) {
  constexpr std::int64_t kMost = 132 * 16;
  return static_cast<unsigned>(
      std::clamp<std::int64_t>((items + kThreads - 1) / kThreads, 1, kMost));
}

__device__ std::uint64_t mix_bits(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

// Box and Muller's cosine half.
__device__ float normal(std::uint64_t seed, std::int64_t index) {
  const std::uint64_t bits = mix_bits(seed + static_cast<std::uint64_t>(index));
  const float u = static_cast<float>((bits >> 40) + 1) * 0x1p-24f;
  const float v = static_cast<float>((bits & 0xffffffu)) * 0x1p-24f;
  return sqrtf(-2.0f * logf(u)) * cospif(2.0f * v);
}

__device__ std::int64_t first_item() {
  return std::int64_t{1} * blockIdx.x * blockDim.x + threadIdx.x;
}
__device__ std::int64_t item_step() {
  return std::int64_t{1} * gridDim.x * blockDim.x;
}

__device__ void store(Bf16Bits* to, float value) {
  *to = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
__device__ void store(Fp8Bits* to, float value) {
  *to = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
}

template <typename Bits>
__global__ void fill_normal(Bits* to, std::int64_t rows, int cols, std::int64_t stride,
                            float spread, std::uint64_t seed) {
  for (std::int64_t i = first_item(); i < rows * cols; i += item_step()) {
    store(to + i / cols * stride + i % cols, spread * normal(seed, i));
  }
}

__global__ void fill_uniform(float* to, std::int64_t count, float low, float high,
                             std::uint64_t seed) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const std::uint64_t bits = mix_bits(seed + static_cast<std::uint64_t>(i));
    to[i] = low + (high - low) * (static_cast<float>(bits >> 40) * 0x1p-24f);
  }
}

__global__ void set_column_kernel(Bf16Bits* to, std::int64_t stride, const float* values,
                                  int rows) {
  for (std::int64_t i = first_item(); i < rows; i += item_step()) store(to + i * stride, values[i]);
}

__device__ float bf16_value(Bf16Bits bits) {
  return __bfloat162float(__ushort_as_bfloat16(bits));
}

// One block of threads a 128x128 block of weights.
__global__ void quantise_kernel(const Bf16Bits* from, std::int64_t stride, int rows, int cols,
                                Fp8Bits* to, float* scales) {
  __shared__ float largest[kThreads];
  const int across = cols / kFp8Block;
  const std::int64_t block = blockIdx.x;
  const std::int64_t block_row = block / across;  // over all matrices: rows % 128 == 0
  const int column = static_cast<int>(block % across) * kFp8Block;
  float mine = 1e-10f;
  for (int i = static_cast<int>(threadIdx.x); i < kFp8Block * kFp8Block; i += kThreads) {
    const std::int64_t row = block_row * kFp8Block + i / kFp8Block;
    mine = fmaxf(mine, fabsf(bf16_value(from[row * stride + column + i % kFp8Block])));
  }
  largest[threadIdx.x] = mine;
  __syncthreads();
  for (int i = 0; i < kThreads; ++i) mine = fmaxf(mine, largest[i]);
  const float scale = __fdiv_rn(mine, 448.0f);
  if (threadIdx.x == 0) scales[block] = scale;
  for (int i = static_cast<int>(threadIdx.x); i < kFp8Block * kFp8Block; i += kThreads) {
    const std::int64_t row = block_row * kFp8Block + i / kFp8Block;
    const std::int64_t at = column + i % kFp8Block;
    store(to + row * cols + at, __fdiv_rn(bf16_value(from[row * stride + at]), scale));
  }
}

__device__ void add_to(std::uint64_t* sum, std::uint64_t value) {
  if (value != 0) atomicAdd(reinterpret_cast<unsigned long long*>(sum), value);
}

__global__ void count_unlike_regions(const unsigned char* const* regions, std::size_t bytes_each,
                                     int value, std::uint64_t* count) {
  std::uint64_t mine = 0;
  for (std::size_t i = threadIdx.x; i < bytes_each; i += blockDim.x) {
    mine += regions[blockIdx.x][i] != value;
  }
  add_to(count, mine);
}

__global__ void count_outside_kernel(const Bf16Bits* data, std::int64_t stride, int capacity,
                                     int rows, int cols, Bf16Bits value, std::uint64_t* count) {
  std::uint64_t mine = 0;
  for (std::int64_t i = first_item(); i < capacity * stride; i += item_step()) {
    const bool outside = i / stride >= rows || i % stride >= cols;
    mine += outside && data[i] != value;
  }
  add_to(count, mine);
}

__global__ void count_different_kernel(const Bf16Bits* a, std::int64_t a_stride, const Bf16Bits* b,
                                       std::int64_t b_stride, const std::int32_t* b_rows, int rows,
                                       int cols, std::uint64_t* count) {
  std::uint64_t mine = 0;
  for (std::int64_t i = first_item(); i < std::int64_t{1} * rows * cols; i += item_step()) {
    const std::int64_t row = i / cols;
    const std::int64_t other = b_rows != nullptr ? b_rows[row] : row;
    mine += a[row * a_stride + i % cols] != b[other * b_stride + i % cols];
  }
  add_to(count, mine);
}

__global__ void gather_kernel(const Bf16Bits* from, std::int64_t from_stride,
                              const std::int32_t* source, int rows, int cols, Bf16Bits* to,
                              std::int64_t to_stride) {
  for (std::int64_t i = first_item(); i < std::int64_t{1} * rows * cols; i += item_step()) {
    const std::int64_t row = i / cols;
    to[row * to_stride + i % cols] = from[source[row] * from_stride + i % cols];
  }
}

__global__ void hash_kernel(const uint4* data, std::int64_t words, std::uint64_t* sum) {
  std::uint64_t mine = 0;
  for (std::int64_t i = first_item(); i < words; i += item_step()) {
    const uint4 word = data[i];
    const std::uint64_t low = word.x | std::uint64_t{word.y} << 32;
    const std::uint64_t high = word.z | std::uint64_t{word.w} << 32;
    mine += mix_bits(low ^ mix_bits(high + static_cast<std::uint64_t>(i)));
  }
  add_to(sum, mine);
}

__device__ std::uint64_t nanoseconds() {
  std::uint64_t now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__global__ void occupy_kernel(std::uint64_t limit_ns, volatile int* stop, volatile int* started) {
  if (threadIdx.x != 0) return;
  started[blockIdx.x] = 1;
  __threadfence_system();
  const std::uint64_t start = nanoseconds();
  while (*stop == 0 && nanoseconds() - start < limit_ns) __nanosleep(1000);
}

__global__ void poison_shared_kernel(int words) {
  // NOTE: volatile, or stores that nobody reads are left out.
  extern __shared__ volatile std::uint32_t shared[];
  for (int i = static_cast<int>(threadIdx.x); i < words; i += static_cast<int>(blockDim.x)) {
    shared[i] = 0xffffffffu;
  }
}

void launched(const char* what) {
  check(cudaGetLastError(), what);
}

// The most shared memory that a block may have, allowed to `kernel`.
int allow_all_shared(const void* kernel) {
  int device = 0;
  int bytes = 0;
  check(cudaGetDevice(&device), "which device");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "shared memory of a block");
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "set shared memory");
  return bytes;
}

}  // namespace

void fill_bf16(Bf16Bits* to, std::int64_t rows, int cols, std::int64_t stride, float spread,
               std::uint64_t seed, cudaStream_t stream) {
  if (rows == 0) return;
  fill_normal<<<blocks_for(rows * cols), kThreads, 0, stream>>>(to, rows, cols, stride, spread,
                                                                seed);
  launched("fill_bf16");
}

void fill_fp8(Fp8Bits* to, std::int64_t rows, int cols, std::int64_t stride, float spread,
              std::uint64_t seed, cudaStream_t stream) {
  if (rows == 0) return;
  fill_normal<<<blocks_for(rows * cols), kThreads, 0, stream>>>(to, rows, cols, stride, spread,
                                                                seed);
  launched("fill_fp8");
}

void fill_float(float* to, std::int64_t count, float low, float high, std::uint64_t seed,
                cudaStream_t stream) {
  if (count == 0) return;
  fill_uniform<<<blocks_for(count), kThreads, 0, stream>>>(to, count, low, high, seed);
  launched("fill_float");
}

void set_column(Bf16Bits* to, std::int64_t stride, const float* values, int rows,
                cudaStream_t stream) {
  if (rows == 0) return;
  set_column_kernel<<<blocks_for(rows), kThreads, 0, stream>>>(to, stride, values, rows);
  launched("set_column");
}

void quantise_matrices(const Bf16Bits* from, std::int64_t stride, int matrices, int rows, int cols,
                       Fp8Bits* to, float* scales, cudaStream_t stream) {
  const auto blocks =
      static_cast<unsigned>(std::int64_t{1} * matrices * (rows / kFp8Block) * (cols / kFp8Block));
  if (blocks == 0) return;
  quantise_kernel<<<blocks, kThreads, 0, stream>>>(from, stride, rows, cols, to, scales);
  launched("quantise_matrices");
}

void count_unlike(const unsigned char* const* regions, int n, std::size_t bytes_each, int value,
                  std::uint64_t* count, cudaStream_t stream) {
  if (n == 0) return;
  count_unlike_regions<<<static_cast<unsigned>(n), kThreads, 0, stream>>>(regions, bytes_each,
                                                                          value, count);
  launched("count_unlike");
}

void count_outside(const Bf16Bits* data, std::int64_t stride, int capacity, int rows, int cols,
                   Bf16Bits value, std::uint64_t* count, cudaStream_t stream) {
  if (capacity == 0) return;
  count_outside_kernel<<<blocks_for(capacity * stride), kThreads, 0, stream>>>(
      data, stride, capacity, rows, cols, value, count);
  launched("count_outside");
}

void count_different(const Bf16Bits* a, std::int64_t a_stride, const Bf16Bits* b,
                     std::int64_t b_stride, const std::int32_t* b_rows, int rows, int cols,
                     std::uint64_t* count, cudaStream_t stream) {
  if (rows == 0) return;
  count_different_kernel<<<blocks_for(std::int64_t{1} * rows * cols), kThreads, 0, stream>>>(
      a, a_stride, b, b_stride, b_rows, rows, cols, count);
  launched("count_different");
}

void gather_rows(const Bf16Bits* from, std::int64_t from_stride, const std::int32_t* source,
                 int rows, int cols, Bf16Bits* to, std::int64_t to_stride, cudaStream_t stream) {
  if (rows == 0) return;
  gather_kernel<<<blocks_for(std::int64_t{1} * rows * cols), kThreads, 0, stream>>>(
      from, from_stride, source, rows, cols, to, to_stride);
  launched("gather_rows");
}

void add_hash(const void* data, std::size_t bytes, std::uint64_t* sum, cudaStream_t stream) {
  const auto words = static_cast<std::int64_t>(bytes / sizeof(uint4));
  if (words == 0) return;
  hash_kernel<<<blocks_for(words), kThreads, 0, stream>>>(static_cast<const uint4*>(data), words,
                                                          sum);
  launched("add_hash");
}

void occupy(int blocks, double seconds, volatile int* stop, volatile int* started,
            cudaStream_t stream) {
  const int shared_bytes = allow_all_shared(reinterpret_cast<const void*>(occupy_kernel));
  occupy_kernel<<<static_cast<unsigned>(blocks), 32, static_cast<std::size_t>(shared_bytes),
                  stream>>>(static_cast<std::uint64_t>(seconds * 1e9), stop, started);
  launched("occupy");
}

void poison_shared(cudaStream_t stream) {
  constexpr unsigned kBlocks = 4 * 132;  // several a multiprocessor, so that none is left out
  const int bytes = allow_all_shared(reinterpret_cast<const void*>(poison_shared_kernel));
  poison_shared_kernel<<<kBlocks, kThreads, static_cast<std::size_t>(bytes), stream>>>(
      bytes / static_cast<int>(sizeof(std::uint32_t)));
  launched("poison_shared");
}

}  // namespace moeopt::gpu_test
