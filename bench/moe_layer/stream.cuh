// The bulk-copy stream: reads given packed experts through a shared-memory ring and does nothing
// else. The floor that a layer which must read the same bytes is held against.
// Invariant: every launch reads each byte of its experts exactly once, and counts what it read.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace moeopt::bench {

inline constexpr int kStreamChunkBytes = 16 * 1024;
inline constexpr int kStreamSlots = 12;
inline constexpr int kStreamMaxExperts = 512;

// What one launch reads: `count` experts by slot, then one more piece of its own length.
struct StreamJob {
  const unsigned char* experts = nullptr;
  std::uint64_t expert_stride = 0;  // bytes, a multiple of 16, like both lengths
  std::uint64_t expert_bytes = 0;
  const unsigned char* extra = nullptr;
  std::uint64_t extra_bytes = 0;
  int count = 0;
  std::uint16_t slots[kStreamMaxExperts] = {};

  unsigned long long* bytes_read = nullptr;  // device; grows by the bytes of each launch
};

// How a launch is spread over the machine; the default is the floor's.
struct StreamShape {
  int blocks = 0;  // 0: one per multiprocessor
  int ring_slots = kStreamSlots;
  // Not 0: as many blocks as the machine holds are launched, and those on multiprocessors from this
  // number on leave at once; `blocks` of the others share the work.
  int sm_limit = 0;
  int* tickets = nullptr;      // device, zero at each launch; needed with sm_limit
  int* sm_of_block = nullptr;  // device [blocks], or null
  bool contiguous = false;     // a block's chunks follow one another instead of taking turns
  bool checksum = false;       // also adds up every word, into `sum`; not for timing
  unsigned long long* sum = nullptr;
};

std::uint64_t stream_bytes(const StreamJob& job);

// Enqueues one launch; throws std::runtime_error on a CUDA error.
void launch_stream(const StreamJob& job, const StreamShape& shape, cudaStream_t stream);

// Adds up the same words with plain loads: what `checksum` must give.
void launch_plain_sum(const StreamJob& job, unsigned long long* sum, cudaStream_t stream);

void launch_empty(cudaStream_t stream);

}  // namespace moeopt::bench
