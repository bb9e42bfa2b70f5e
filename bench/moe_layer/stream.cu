#include <algorithm>

#include "moe_layer/stream.cuh"
#include "moe_layer/timing.h"

namespace moeopt::bench {
namespace {

constexpr int kSumThreads = 128;

struct Chunk {
  const unsigned char* from;
  std::uint32_t bytes;
};

__host__ __device__ inline int chunks_of(std::uint64_t bytes) {
  return static_cast<int>((bytes + kStreamChunkBytes - 1) / kStreamChunkBytes);
}

__host__ __device__ inline int chunks_of(const StreamJob& job) {
  return job.count * chunks_of(job.expert_bytes) + chunks_of(job.extra_bytes);
}

__device__ Chunk chunk_at(const StreamJob& job, int index, int chunks_per_expert) {
  const int expert = index / chunks_per_expert;
  const bool extra = expert >= job.count;
  const int within = index - (extra ? job.count : expert) * chunks_per_expert;
  const std::uint64_t offset = std::uint64_t{1} * within * kStreamChunkBytes;
  const unsigned char* base =
      extra ? job.extra : job.experts + job.slots[expert] * job.expert_stride;
  const std::uint64_t left = (extra ? job.extra_bytes : job.expert_bytes) - offset;
  return {base + offset, left < kStreamChunkBytes ? static_cast<std::uint32_t>(left)
                                                  : std::uint32_t{kStreamChunkBytes}};
}

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

__device__ inline void fill_slot(unsigned char* slot, std::uint64_t* full, Chunk chunk) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(full)),
               "r"(chunk.bytes)
               : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(slot)),
      "l"(chunk.from), "r"(chunk.bytes), "r"(shared_address(full))
      : "memory");
}

__device__ inline void wait_full(std::uint64_t* full, std::uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(shared_address(full)),
      "r"(parity)
      : "memory");
}

// One thread keeps the ring full; with kSum the others read each slot before it is filled again.
template <bool kSum>
__global__ void __launch_bounds__(kSum ? kSumThreads : 32)
    stream_kernel(const __grid_constant__ StreamJob job,
                  const __grid_constant__ StreamShape shape) {
  extern __shared__ __align__(128) unsigned char ring[];
  __shared__ std::uint64_t full[kStreamSlots];
  __shared__ int rank;
  if (threadIdx.x == 0) {
    std::uint32_t sm;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    rank = blockIdx.x;
    if (shape.sm_limit > 0) {
      rank = static_cast<int>(sm) < shape.sm_limit ? atomicAdd(shape.tickets, 1) : shape.blocks;
    }
    if (shape.sm_of_block && rank < shape.blocks) shape.sm_of_block[rank] = static_cast<int>(sm);
    for (int slot = 0; slot < shape.ring_slots; ++slot) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&full[slot])));
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  if constexpr (kSum) {
    __syncthreads();
  } else {
    if (threadIdx.x != 0) return;
  }
  if (rank >= shape.blocks) return;

  const int chunks = chunks_of(job);
  const int chunks_per_expert = job.count > 0 ? chunks_of(job.expert_bytes) : 1;
  int first = rank, step = shape.blocks, mine = (chunks - rank + step - 1) / step;
  if (shape.contiguous) {
    first = static_cast<int>(std::int64_t{1} * chunks * rank / shape.blocks);
    mine = static_cast<int>(std::int64_t{1} * chunks * (rank + 1) / shape.blocks) - first;
    step = 1;
  }
  unsigned long long read = 0, sum = 0;
  const auto fill = [&](int i, int slot) {
    const Chunk chunk = chunk_at(job, first + i * step, chunks_per_expert);
    fill_slot(ring + slot * kStreamChunkBytes, &full[slot], chunk);
    read += chunk.bytes;
  };
  if (threadIdx.x == 0) {
    for (int i = 0; i < mine && i < shape.ring_slots; ++i) fill(i, i);
  }
  int slot = 0;
  std::uint32_t parity = 0;
  for (int i = 0; i < mine; ++i) {
    wait_full(&full[slot], parity);
    if constexpr (kSum) {
      const Chunk chunk = chunk_at(job, first + i * step, chunks_per_expert);
      const auto* words = reinterpret_cast<unsigned long long*>(ring + slot * kStreamChunkBytes);
      for (std::uint32_t w = threadIdx.x; w < chunk.bytes / 8; w += kSumThreads) sum += words[w];
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
      __syncthreads();
    }
    if (threadIdx.x == 0 && i + shape.ring_slots < mine) fill(i + shape.ring_slots, slot);
    if (++slot == shape.ring_slots) {
      slot = 0;
      parity ^= 1;
    }
  }
  if (threadIdx.x == 0 && read > 0) atomicAdd(job.bytes_read, read);
  if constexpr (kSum) atomicAdd(shape.sum, sum);
}

__global__ void plain_sum_kernel(const __grid_constant__ StreamJob job, unsigned long long* total) {
  unsigned long long sum = 0;
  for (int expert = blockIdx.y; expert <= job.count; expert += gridDim.y) {
    const bool extra = expert == job.count;
    const auto* words = reinterpret_cast<const unsigned long long*>(
        extra ? job.extra : job.experts + job.slots[expert] * job.expert_stride);
    const std::uint64_t n = (extra ? job.extra_bytes : job.expert_bytes) / 8;
    for (std::uint64_t w = blockIdx.x * blockDim.x + threadIdx.x; w < n;
         w += std::uint64_t{1} * gridDim.x * blockDim.x) {
      sum += words[w];
    }
  }
  atomicAdd(total, sum);
}

__global__ void empty_kernel() {}

}  // namespace

std::uint64_t stream_bytes(const StreamJob& job) {
  return job.count * job.expert_bytes + job.extra_bytes;
}

void launch_stream(const StreamJob& job, const StreamShape& wanted, cudaStream_t stream) {
  StreamShape shape = wanted;
  const int multiprocessors = multiprocessor_count();
  if (shape.blocks == 0) shape.blocks = multiprocessors;
  const int ring_bytes = shape.ring_slots * kStreamChunkBytes;
  const auto kernel = shape.checksum ? stream_kernel<true> : stream_kernel<false>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, ring_bytes));
  const int threads = shape.checksum ? kSumThreads : 32;
  int grid = shape.blocks;
  if (shape.sm_limit > 0) {
    int per_multiprocessor = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel, threads,
                                                        ring_bytes));
    grid = multiprocessors * per_multiprocessor;
  }
  kernel<<<grid, threads, ring_bytes, stream>>>(job, shape);
  check(cudaGetLastError());
}

void launch_plain_sum(const StreamJob& job, unsigned long long* sum, cudaStream_t stream) {
  plain_sum_kernel<<<dim3(64, std::max(1, std::min(job.count + 1, 64))), 256, 0, stream>>>(job,
                                                                                           sum);
  check(cudaGetLastError());
}

void launch_empty(cudaStream_t stream) {
  empty_kernel<<<1, 32, 0, stream>>>();
  check(cudaGetLastError());
}

}  // namespace moeopt::bench
