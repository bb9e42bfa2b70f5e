// When each role of each block did what, for bench/moe_layer --trace. Owned here: the record and
// its buffer. In ordinary builds every call is empty and the code is the same without it.
// Invariant: one lane of a role stamps; a full buffer drops the rest.
#pragma once

#include <cstdint>

#include "cuda/moe/ptx.cuh"

namespace moeopt::cuda::moe {

// Roles with a lane of records each: producer, loaders, warpgroups.
enum class TraceRole : std::uint32_t { kProducer, kLoader, kWarpgroup0, kWarpgroup1, kCount };

enum class TracePhase : std::uint32_t {
  kStart,     // the role begins
  kWaited,    // its wait for routes, a dependency or the first block is over
  kTask,      // it has a task
  kDone,      // the task's main part is over: weights asked for, tokens asked for, K loop
  kFinished,  // epilogue and combination are over
  kEnd,
  kWall,  // `clock` is the device's wall clock in ns: begins and ends the producer's lane
};

struct TraceRecord {
  std::uint64_t clock;  // of this multiprocessor
  std::uint32_t phase;
  std::uint32_t task;  // TaskKind << 28 | slot & 0xfff << 16 | unit
};
inline constexpr int kTraceRecords = 512;  // of a role in a block

#if defined(MOEOPT_MOE_TRACE)
static __device__ TraceRecord*
    trace_buffer;  // [blocks][TraceRole::kCount][kTraceRecords], zeroed; or null

class Tracer {
 public:
  __device__ Tracer(TraceRole role, bool stamps) : stamps_(stamps && trace_buffer != nullptr) {
    next_ = trace_buffer + (blockIdx.x * static_cast<std::uint32_t>(TraceRole::kCount) +
                            static_cast<std::uint32_t>(role)) *
                               kTraceRecords;
    end_ = next_ + kTraceRecords;
  }
  __device__ void stamp(TracePhase phase, int kind = 15, int slot = 0, int unit = 0) {
    if (!stamps_ || next_ == end_) return;
    *next_++ = {static_cast<std::uint64_t>(clock64()), static_cast<std::uint32_t>(phase),
                static_cast<std::uint32_t>(kind) << 28 |
                    (static_cast<std::uint32_t>(slot) & 0xfff) << 16 |
                    static_cast<std::uint32_t>(unit)};
  }
  // One moment in both clocks: multiprocessors' own are not in step with each other.
  __device__ void stamp_wall() {
    if (!stamps_ || end_ - next_ < 2) return;
    *next_++ = {wall_clock_ns(), static_cast<std::uint32_t>(TracePhase::kWall), 0};
    stamp(TracePhase::kWall);
  }

 private:
  bool stamps_;
  TraceRecord* next_;
  TraceRecord* end_;
};
#else
class Tracer {
 public:
  __device__ Tracer(TraceRole /*role*/, bool /*stamps*/) {}
  __device__ void stamp(TracePhase /*phase*/, int /*kind*/ = 15, int /*slot*/ = 0,
                        int /*unit*/ = 0) {}
  __device__ void stamp_wall() {}
};
#endif

}  // namespace moeopt::cuda::moe
