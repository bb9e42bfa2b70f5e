// Small kernels that make and compare data on the device: random matrices, hashes, bit comparison,
// a kernel that keeps multiprocessors busy. Invariant: values depend on (seed, index) alone;
// nothing here looks at the library under test.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace moeopt::gpu_test {

using Bf16Bits = std::uint16_t;
using Fp8Bits = std::uint8_t;

// rows x cols normal numbers times `spread`, `stride` elements from row to row; what lies between
// rows stays as it is.
void fill_bf16(Bf16Bits* to, std::int64_t rows, int cols, std::int64_t stride, float spread,
               std::uint64_t seed, cudaStream_t stream);
void fill_fp8(Fp8Bits* to, std::int64_t rows, int cols, std::int64_t stride, float spread,
              std::uint64_t seed, cudaStream_t stream);
// Uniform in [low, high).
void fill_float(float* to, std::int64_t count, float low, float high, std::uint64_t seed,
                cudaStream_t stream);
// to[row * stride] = values[row]
void set_column(Bf16Bits* to, std::int64_t stride, const float* values, int rows,
                cudaStream_t stream);

// bf16 [matrices][rows][stride] to e4m3 [matrices][rows][cols] with a scale per 128x128 block:
// scale = max(|w|, 1e-10) / 448, e4m3(w / scale).
void quantise_matrices(const Bf16Bits* from, std::int64_t stride, int matrices, int rows, int cols,
                       Fp8Bits* to, float* scales, cudaStream_t stream);

// Adds to *count the bytes of `n` regions that are not `value`.
void count_unlike(const unsigned char* const* regions, int n, std::size_t bytes_each, int value,
                  std::uint64_t* count, cudaStream_t stream);
// Adds to *count the elements of a [capacity, stride] matrix outside of its first `rows` x `cols`
// that are not `value`.
void count_outside(const Bf16Bits* data, std::int64_t stride, int capacity, int rows, int cols,
                   Bf16Bits value, std::uint64_t* count, cudaStream_t stream);
// Adds to *count the elements of two [rows, cols] matrices whose bits differ; row r of b is row
// b_rows[r] (null: r).
void count_different(const Bf16Bits* a, std::int64_t a_stride, const Bf16Bits* b,
                     std::int64_t b_stride, const std::int32_t* b_rows, int rows, int cols,
                     std::uint64_t* count, cudaStream_t stream);
// to[r] = from[source[r]]
void gather_rows(const Bf16Bits* from, std::int64_t from_stride, const std::int32_t* source,
                 int rows, int cols, Bf16Bits* to, std::int64_t to_stride, cudaStream_t stream);
// Adds a hash of 16-byte aligned memory to *sum; the same bytes give the same sum.
void add_hash(const void* data, std::size_t bytes, std::uint64_t* sum, cudaStream_t stream);

// Holds `blocks` whole multiprocessors (by their shared memory) until *stop != 0 or the time is
// over; block b sets started[b] to 1. Both in mapped host memory.
void occupy(int blocks, double seconds, volatile int* stop, volatile int* started,
            cudaStream_t stream);
// Overwrites all shared memory of idle multiprocessors with NaN, as bf16 and as e4m3: what a kernel
// finds there that reads before it writes.
void poison_shared(cudaStream_t stream);

}  // namespace moeopt::gpu_test
