// What the roles of a block share: the compiled tile sizes, the rings and barriers in shared
// memory, and where a launch's routing can be read. Owned here: sizes and who may write what.
// Invariant: every ring and phase runs on across tasks, experts and GEMMs; none is ever reset.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/moe/config.h"
#include "cuda/moe/layout.h"
#include "cuda/moe/params.h"
#include "cuda/moe/ptx.cuh"
#include "cuda/moe/schedule.h"
#include "cuda/moe/trace.cuh"
#include "cuda/moe/workspace.h"

namespace moeopt::cuda::moe {

// Warps: 0 producer (tickets, schedule, weights), 1 and 2 token loaders, 3 publisher (releases what
// the consumers stored; may route few tokens), 4 .. 11 consumers (gate, top-k, wgmma, epilogues,
// combination), two warpgroups.
inline constexpr int kLoaderWarps = 2;
inline constexpr int kPublisherWarp = 3;
inline constexpr int kConsumerWarps = 8;
inline constexpr int kConsumers = 32 * kConsumerWarps;
inline constexpr int kThreads = 128 + kConsumers;

inline constexpr int kMaxSlots = 512;
inline constexpr int kMaxBlocks = 256;  // K blocks of an e4m3 row: 32768 / 128

// Lanes that arrive where a warp says that it is done with a slot or a stage. racecheck knows only
// threads that arrive and wait themselves, neither those for whom another lane does, behind
// __syncwarp, nor a chain by way of a third warp: in its build each lane arrives, and who writes a
// slot waits for its readers itself (wait_for_readers).
#if defined(MOEOPT_MOE_RACECHECK)
inline constexpr int kArrivingLanes = 32;
#else
inline constexpr int kArrivingLanes = 1;
#endif

// Named barriers: of the consumers, of the loaders; 0 is __syncthreads.
inline constexpr int kConsumerBarrier = 1;
inline constexpr int kLoaderBarrier = 2;

template <Dtype kDtype_, int kMTiles_, int kNMax_, int kWeightStages_, int kTokenStages_,
          int kInFlight_, int kSecondTiles_ = kMTiles_>
struct Tile {
  static constexpr Dtype kDtype = kDtype_;
  static constexpr bool kFp8 = kDtype == Dtype::kFp8;
  static constexpr int kElementBytes = kFp8 ? 1 : 2;
  static constexpr int kMTiles = kMTiles_;
  // 128-row tiles of a task of the second GEMM. Fewer than kMTiles: its K is taken to be long.
  static constexpr int kSecondTiles = kSecondTiles_;
  static constexpr bool kHalvesSecond = kSecondTiles < kMTiles;
  static constexpr int kNMax = kNMax_;
  static constexpr bool kFew = kNMax <= kFewTokens;  // Config::few
  static constexpr int kWeightStages = kWeightStages_;
  static constexpr int kTokenStages = kTokenStages_;
  // Stages of weights on their way at a time: what the memory needs to be busy. The whole ring's at
  // once only queue, come together and late.
  static constexpr int kInFlight = kInFlight_;
  // K blocks of a stage: 32 KB of weights whatever the tile.
  static constexpr int kBlocks = 2 / kMTiles;
  static constexpr int kWeightStageBytes = kStageBytes * kMTiles * kBlocks;
  static constexpr int kTokenBlockBytes = kNMax * kBlockBytes;
  static constexpr int kTokenStageBytes = kTokenBlockBytes * kBlocks;
  // Scales of a packed tile: [H / 128][2: gate, up] or [I / 128].
  static constexpr int kScaleFloats = kFp8 ? kMaxBlocks : 4;
  // Tiles for many tokens keep h in stage images and store by whole lines (image_loader.cuh,
  // many_tokens.cuh).
  static constexpr bool kImages = kNMax >= 128;
  static constexpr int kLoaderLanes = kImages ? 32 * kLoaderWarps : 32;  // that fill a stage
  // They have one ring: a stage holds weights and tokens, and is full and empty as one, so that a K
  // loop has half as much to wait for. The others' tokens are small, and have stages of their own.
  static constexpr bool kOneRing = kImages;
  // There `full` is the loaders' too: a producer that waited for it would wait for tokens and h.
  static_assert(!kOneRing || kInFlight >= kWeightStages);
  static_assert(!kOneRing || (kTokenStages == kWeightStages && kBlocks == 1));
  static constexpr int kTokenBarriers = kOneRing ? 1 : kTokenStages;  // with one ring unused
  static constexpr int kTaskSlots = kImages ? 4 : 5;
  static constexpr int kStagingBytes = kImages ? kNMax * kBlockBytes : 16;
  // Registers a thread, but with few tokens. A block starts with 168 for each: what the consumers
  // claim, the others must have released (128 * kProducer + 256 * kConsumer <= 384 * 168), or the
  // claim waits for ever.
  static constexpr int kProducerRegisters = kImages ? 72 : 104;
  static constexpr int kConsumerRegisters = kImages ? 216 : 200;
  static_assert(128 * kProducerRegisters + 256 * kConsumerRegisters <= 384 * 168);
  static constexpr bool kLocalLists = kNMax <= 64;  // Config::local_lists may be set
  static constexpr int kTokenScales = kFp8 ? kNMax * kBlocks : 4;
};

// A place in a ring and the phase of its barriers.
struct Place {
  int stage = 0;
  std::uint32_t phase = 0;
};
// The same where the ring has kStages of them.
template <int kStages>
struct Cursor : Place {
  __device__ void go_to(const Place& place) {
    stage = place.stage;
    phase = place.phase;
  }
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
  // `back` uses earlier, up to kStages. NOTE: before the first use the phase is one that a fresh
  // barrier has behind it.
  __device__ __forceinline__ Place before(int back) const {
    int s = stage - back;
    std::uint32_t p = phase;
    if (s < 0) {
      s += kStages;
      p ^= 1;
    }
    return {s, p};
  }
};

// A task as the loaders and consumers see it.
struct TaskInfo {
  Task task;
  Place place;                // of this task in the task ring: read from here, not kept
  int expert;                 // its slot; -1: the shared one
  int rows;                   // tokens of the tile
  int first_row;              // of the tile within its expert
  int h_row;                  // of the tile's first row in h (h_shared when task.slot < 0)
  int blocks;                 // of K
  std::uint32_t* ready;       // counts finished units of h of this (expert, token tile); not kFew
  std::uint32_t ready_count;  // when all are
  // Tiles with images alone:
  Place ring;     // of the task's first stage
  bool gathered;  // its tokens come row by row, written by threads; else in images
  bool kept;      // gathered, and the publisher leaves them in images, for the expert's other units

  __device__ bool gemm() const {
    return task.kind == TaskKind::kFirst || task.kind == TaskKind::kSecond;
  }
};

// A slot of a token.
struct Chosen {
  std::int32_t id;
  float weight;
};
inline constexpr int kMaxTopK = 16;

// What becomes of a slot of a token: the expert's packed slot when this is a row of work (else -1:
// absent, or a repeat of an earlier slot's expert), and the y row of the token that it reads (-1:
// none).
struct Choice {
  std::int32_t slot;
  std::int32_t y_slot;

  __device__ std::uint32_t packed() const {
    return static_cast<std::uint32_t>(slot + 1) << 8 | static_cast<std::uint32_t>(y_slot + 1);
  }
  __device__ static Choice unpacked(std::uint32_t bits) {
    return {static_cast<std::int32_t>(bits >> 8) - 1, static_cast<std::int32_t>(bits & 0xff) - 1};
  }
};

// Routing of all tokens when each block repeats it (Config::few).
template <int kTokens>
struct LocalRoutes {
  std::uint32_t choice[kTokens * kMaxTopK];
  float weight[kTokens * kMaxTopK];
};

// The tokens of a combination.
struct Addends {
  std::int32_t from[kMaxTopK + 1];  // y row of the token, -1: none
  float weight[kMaxTopK + 1];
};

// One launch as a block sees it. In shared memory, written before the roles part: registers are for
// sums.
struct Run {
  Launch launch;
  std::uint32_t ticket;         // this block's first
  std::uint32_t number;         // of the launch
  std::uint32_t tag;            // of its words: number + 1; never 0, which marks unwritten ones
  bool first;                   // this block drew ticket 0: it does what a launch does once
  CounterSet* set;              // of this launch
  std::uint32_t* row_counts;    // [slots]
  std::uint32_t* ready;         // [token tiles][shared tiles]: finished units of h
  std::uint32_t* gate_arrived;  // [gate tiles]: finished gate units
  std::uint32_t* y_arrived;     // [tokens]: units of y rows, of all slots
};

inline constexpr int kGateSums = kConsumerWarps * 16 * 8;  // parts of logits, of gate_logits

template <typename T>
struct alignas(1024) SharedState {
  std::byte weights[T::kWeightStages][T::kWeightStageBytes];
  std::byte tokens[T::kTokenStages][T::kTokenStageBytes];
  union {
    // Of results, 128 bytes a token; each consumer warp its own.
    std::byte staging[T::kStagingBytes];
    float image_gate_sums[T::kImages ? kGateSums : 1];
  };
  alignas(16) float token_scales[T::kTokenStages][T::kTokenScales];
  alignas(16) float weight_scales[T::kTaskSlots][T::kMTiles][T::kScaleFloats];
  union {
    float gate_sums[T::kImages ? 1 : kGateSums];
    // Lists; of a warp's entries, per expert.
    std::uint16_t places[T::kLocalLists ? kConsumerWarps : 1][T::kLocalLists ? kMaxSlots : 1];
  };
  // fp8, few tokens: largest |h| per warp and token.
  float row_max[2][T::kFp8 && !T::kImages && !T::kFew ? kConsumerWarps * T::kNMax : 1];
  std::int32_t y_row[T::kTaskSlots]
                    [T::kNMax];  // second GEMM: where each token of the tile has its y row
  // The schedule.
  std::int32_t scheduled;
  std::int32_t tile_start[kMaxSlots + 1];
  std::int32_t row_start[kMaxSlots + 1];
  std::uint16_t list[T::kLocalLists ? kLocalEntries : 1];  // token * k + slot, expert by expert
  LocalRoutes<T::kFew ? kFewTokens : 1> local;
  Addends addends[kCombineTokens];
  TaskInfo tasks[T::kTaskSlots];
  Params params;  // for functions that are not inlined: there the kernel's own are slow to reach
  // Few tokens: of x or h, for each row of the loader's task.
  std::int32_t source_row[kLoaderWarps][T::kImages ? 1 : T::kNMax];
  Run run;

  // Of the weight ring; with one ring of both, to which the arrivals in brackets belong.
  Mbarrier full[T::kWeightStages];           // producer's expect_tx (kLoaderLanes)
  Mbarrier empty[T::kWeightStages];          // consumer warps (publisher, or a loader for it)
  Mbarrier tokens_full[T::kTokenBarriers];   // kLoaderLanes
  Mbarrier tokens_empty[T::kTokenBarriers];  // consumer warps
  Mbarrier speculated;                       // producer's expect_tx, stage after stage
  Mbarrier task_full[T::kTaskSlots];         // producer
  Mbarrier task_scales[T::kTaskSlots];       // producer's expect_tx, once a use of the slot; fp8
  Mbarrier task_rows[T::kTaskSlots];         // the first loader's lanes: y_row is written
  Mbarrier task_stored[T::kTaskSlots];       // consumer warps: done with the task, results stored
  Mbarrier task_empty[T::kTaskSlots];        // loader warps and publisher
  // With local_lists, each once a launch:
  Mbarrier counted;  // consumers: tile_start holds the rows of each expert (publisher_routes: the
                     // publisher's lanes: local holds the choices)
  Mbarrier planned;  // producer: tile_start and row_start are complete (producer_lists: list, too)
  Mbarrier listed;   // consumers: list is complete
};

template <typename T>
__device__ float* gate_sums(SharedState<T>& s) {
  return T::kImages ? s.image_gate_sums : s.gate_sums;
}

// Whether each block sorts all entries by expert for itself.
template <typename T>
__device__ bool local_lists(const Params& p) {
  return T::kFew || (T::kLocalLists && p.local_lists != 0);
}

// The rings' stages, of weights and then of tokens, as one piece of shared memory.
inline constexpr int kRingBytes = 192 * 1024;  // with images
template <typename T>
__device__ std::uint32_t ring_memory(SharedState<T>& s) {
  static_assert(sizeof(s.weights) + sizeof(s.tokens) == kRingBytes);
  static_assert(offsetof(SharedState<T>, tokens) == sizeof(s.weights));
  return shared_address(s.weights);
}

// This warp is done with what `bar` guards.
__device__ inline void arrive_for_warp(Mbarrier& bar) {
  __syncwarp();
  if (threadIdx.x % 32 < kArrivingLanes) mbarrier_arrive(bar);
}
// Before slot `place` of the task ring is written: the consumers of its last task have arrived.
// (task_empty, by way of the publisher, has said so already.)
template <typename T>
__device__ void wait_for_readers(SharedState<T>& s, const Place& place) {
  if constexpr (kArrivingLanes > 1) {
    mbarrier_wait(s.task_stored[place.stage], place.phase ^ 1, "a slot's readers");
  }
}

__device__ inline std::uint32_t* rows_of(CounterSet* set) {
  return reinterpret_cast<std::uint32_t*>(set + 1);
}

// Bytes of the counter set of launch `number`; the next launch uses the other one.
__device__ inline std::byte* set_of(const Params& p, std::uint32_t number) {
  return p.sets + (number & 1) * p.set_bytes;
}

// `drawn`: this block's first draw.
template <typename T>
__device__ void make_run(const Params& p, SharedState<T>& s, std::uint64_t drawn, int tokens) {
  Run& run = s.run;
  run.ticket = static_cast<std::uint32_t>(drawn);
  run.number = static_cast<std::uint32_t>(drawn >> 32);
  run.tag = run.number + 1;
  run.first = run.ticket == 0;
  run.set = reinterpret_cast<CounterSet*>(set_of(p, run.number));
  run.row_counts = rows_of(run.set);
  run.ready = run.row_counts + p.slots;
  run.gate_arrived = run.ready + p.token_tiles + p.shared_tiles;
  run.y_arrived = run.gate_arrived + p.gate_tiles;
  run.launch = p.launch.with_tokens(tokens);
}

__device__ inline void stamp(Tracer& trace, TracePhase phase, const Task& task) {
  trace.stamp(phase, static_cast<int>(task.kind), task.slot, task.unit);
}

// Entry (token * k + slot) of row `row` of a routed task.
template <typename T>
__device__ int entry_of(const Params& p, const SharedState<T>& s, const TaskInfo& info, int row) {
  if (local_lists<T>(p)) return s.list[info.h_row + row];
  return p.lists[std::int64_t{1} * info.expert * p.max_tokens + info.first_row + row];
}

}  // namespace moeopt::cuda::moe
