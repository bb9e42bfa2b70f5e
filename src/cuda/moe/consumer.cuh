// Warps 4 .. 11, two warpgroups: gate, top-k, both GEMMs with their epilogues, the combination.
// Owned here: the rounding of h and y. Invariant (batch invariance): an element's sum runs along
// all of K in one accumulator, ascending (fp8: 128 products at a time, scaled, then added),
// whatever the tile it falls into.
//
// Weights are operand A (64 rows a wgmma), tokens operand B: a task with few tokens is a narrow N,
// not padding. With one 64-row tile per warpgroup a task's 128 rows are halves of one packed tile;
// with two, each warpgroup has a packed tile of its own.
#pragma once

#include <type_traits>

#include "cuda/moe/combine.cuh"
#include "cuda/moe/gate.cuh"
#include "cuda/moe/lists.cuh"
#include "cuda/moe/shared_state.cuh"
#include "cuda/moe/wgmma.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class Consumer {
 public:
  __device__ Consumer(const Params& p, SharedState<T>& s)
      : p_(p),
        s_(s),
        run_(s.run),
        consumer_(static_cast<int>(threadIdx.x) - 128),
        group_(consumer_ / 128),
        warp_(consumer_ / 32 % 4),
        lane_(consumer_ % 32),
        trace_(group_ == 0 ? TraceRole::kWarpgroup0 : TraceRole::kWarpgroup1,
               consumer_ % 128 == 0) {}

  __device__ void work() {
    Cursor<kTaskSlots> tasks;
    for (;;) {
      mbarrier_wait(s_.task_full[tasks.stage], tasks.phase, "a task (consumer)");
      const TaskInfo& info = s_.tasks[tasks.stage];
      const TaskKind kind = info.task.kind;
      if (kind == TaskKind::kEnd) {
        trace_.stamp(TracePhase::kEnd);
        return;
      }
      stamp(trace_, TracePhase::kTask, info.task);
      if (kind == TaskKind::kGate) gate_task(s_.params, s_, run_, info.task, consumer_);
      if (kind == TaskKind::kDispatch)
        dispatch_task(s_.params, run_, s_.chosen[0], info.task, consumer_);
      if constexpr (T::kLocalLists) {
        if (kind == TaskKind::kList) list_task(s_.params, s_, run_, consumer_);
      }
      if (kind == TaskKind::kCombine) combine_task(s_.params, s_, run_, info.task, consumer_);
      if constexpr (T::kFp8) {
        if (kind == TaskKind::kQuantise) quantise_task(s_.params, run_, info.task, consumer_);
      }
      if (kind == TaskKind::kFirst || kind == TaskKind::kSecond) gemm(info, tasks);
      stamp(trace_, TracePhase::kFinished, info.task);
      if constexpr (T::kFp8) fence_async_shared();  // the copy engine writes the next task's scales
      __syncwarp();
      if (lane_ == 0) mbarrier_arrive(s_.task_stored[tasks.stage]);
      tasks.advance();
    }
  }

 private:
  __device__ void gemm(const TaskInfo& info, const Cursor<kTaskSlots>& tasks) {
    const int rows = info.rows;
    if (rows <= 8) {
      gemm_n<8>(info, tasks);
    } else if (rows <= 16) {
      gemm_n<16>(info, tasks);
    } else if (rows <= 32) {
      gemm_n<32>(info, tasks);
    } else {
      if constexpr (T::kNMax >= 64) {
        if (rows <= 64) {
          gemm_n<64>(info, tasks);
          return;
        }
      }
      if constexpr (T::kNMax >= 128) gemm_n<128>(info, tasks);
    }
  }

  template <int kN>
  using Sums = float[T::kMTiles][kN / 2];

  template <int kN>
  __device__ void gemm_n(const TaskInfo& info, const Cursor<kTaskSlots>& tasks) {
    // NOTE: zeroed also because a register that wgmma reads uninitialised is live around the task
    // loop: then the accumulators of all widths compete.
    Sums<kN> sums = {};
    const bool first = info.task.kind == TaskKind::kFirst;
    if constexpr (T::kFp8) {
      multiply_fp8<kN>(info, s_.weight_scales[tasks.stage], first, sums);
    } else {
      multiply_bf16<kN>(info, sums);
    }
#pragma unroll
    for (int i = 0; i < T::kMTiles; ++i) pin(sums[i]);
    stamp(trace_, TracePhase::kDone, info.task);
    if (first) {
      finish_first<kN>(info, sums);
    } else {
      mbarrier_wait(s_.task_rows[tasks.stage], tasks.phase, "y rows");
      finish_second<kN>(info, sums, s_.y_row[tasks.stage]);
    }
  }

  // --- K loops -----------------------------------------------------------------------------------

  // A block of the stage at hand. With one tile a warpgroup has a half of each block's tile, with
  // two a tile.
  __device__ std::uint64_t weights_operand(int block) const {
    const int offset =
        T::kMTiles == 1 ? block * kStageBytes + group_ * kHalfBytes : group_ * kStageBytes;
    return swizzled_operand(shared_address(s_.weights[weights_.stage]) + offset);
  }
  __device__ std::uint64_t tokens_operand(int block) const {
    return swizzled_operand(shared_address(s_.tokens[tokens_.stage]) + block * T::kTokenBlockBytes);
  }
  __device__ void wait_for_stage(const TaskInfo& info, int block) {
    mbarrier_wait(s_.weights_full[weights_.stage], weights_.phase, "weights");
    mbarrier_wait(s_.tokens_full[tokens_.stage], tokens_.phase, "tokens");
    fence_async_shared();  // cp.async wrote the tokens, wgmma reads them
    if (block == 0) stamp(trace_, TracePhase::kWaited, info.task);
  }
  __device__ void free_stage(int weights, int tokens) {
    __syncwarp();
    if (lane_ == 0) {
      mbarrier_arrive(s_.weights_empty[weights]);
      mbarrier_arrive(s_.tokens_empty[tokens]);
    }
  }
  static __device__ int previous(int stage, int stages) {
    return stage == 0 ? stages - 1 : stage - 1;
  }
  __device__ void free_previous_stage() {
    free_stage(previous(weights_.stage, T::kWeightStages),
               previous(tokens_.stage, T::kTokenStages));
  }

  template <int kN, int kBlocks>
  __device__ void issue_bf16(Sums<kN>& sums) {
    wgmma_fence();
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const std::uint64_t weights = weights_operand(block);
      const std::uint64_t tokens = tokens_operand(block);
#pragma unroll
      for (int step = 0; step < 4; ++step) {
#pragma unroll
        for (int i = 0; i < T::kMTiles; ++i) {
          wgmma_bf16<kN>(sums[i], weights + i * (kHalfBytes >> 4) + step * 2, tokens + step * 2, 1);
        }
      }
    }
    wgmma_commit();
  }

  // A stage's products run while the next stage is waited for.
  template <int kN>
  __device__ void multiply_bf16(const TaskInfo& info, Sums<kN>& sums) {
    const int whole = info.blocks / T::kBlocks;
    for (int stage = 0; stage < whole; ++stage) {
      wait_for_stage(info, stage);
      issue_bf16<kN, T::kBlocks>(sums);
      if (stage > 0) {
        wgmma_wait<1>();
        free_previous_stage();
      }
      weights_.advance();
      tokens_.advance();
    }
    wgmma_wait<0>();
    if (whole > 0) free_previous_stage();
    if (T::kBlocks > 1 && info.blocks % T::kBlocks != 0) {
      wait_for_stage(info, whole);
      issue_bf16<kN, 1>(sums);
      wgmma_wait<0>();
      weights_.advance();
      tokens_.advance();
      free_previous_stage();
    }
  }

  // 128 products by wgmma, times both scales, then into the float32 total: the tensor core's own
  // accumulator keeps too few bits for all of K. Both m-tiles at a time, up to kPart columns.
  // (Promoting one while the next runs is refused by ptxas, C7514; the other warpgroup fills the
  // gap.)
  template <int kN>
  __device__ void multiply_fp8(const TaskInfo& info, const float* scales, bool first,
                               Sums<kN>& total) {
    static_assert(T::kBlocks == 1);
    constexpr int kPart = kN == 128 ? 32 : kN;  // registers
    // Of this warpgroup's packed tile: rows r of a fragment (gate), rows r + 8 (up).
    const int padded = static_cast<int>(align_up((first ? 2 : 1) * info.blocks, 4));
    const float* low = scales + group_ * padded;
    const float* high = first ? low + info.blocks : low;
    float products[T::kMTiles][kPart / 2] = {};
    for (int block = 0; block < info.blocks; ++block) {
      const float low_scale = low[block];
      const float high_scale = high[block];
      wait_for_stage(info, block);
      const std::uint64_t weights = weights_operand(0);
      const float* token_scales = s_.token_scales[tokens_.stage] + 2 * (lane_ % 4);
#pragma unroll
      for (int part = 0; part < kN / kPart; ++part) {
        const std::uint64_t tokens = tokens_operand(0) + part * (kPart * kBlockBytes >> 4);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; ++step) {
#pragma unroll
          for (int i = 0; i < T::kMTiles; ++i) {
            wgmma_e4m3<kPart>(products[i], weights + i * (kHalfBytes >> 4) + step * 2,
                              tokens + step * 2, step > 0);
          }
        }
        wgmma_commit();
        wgmma_wait<0>();
#pragma unroll
        for (int i = 0; i < T::kMTiles; ++i) {
          pin(products[i]);
          float(&sums)[kN / 2] = total[i];
#pragma unroll
          for (int g = 0; g < kPart / 8; ++g) {
            const int column = part * kPart + 8 * g;
            const float2 token = *reinterpret_cast<const float2*>(token_scales + column);
            const int at = column / 2;
            sums[at] += products[i][4 * g] * (low_scale * token.x);
            sums[at + 1] += products[i][4 * g + 1] * (low_scale * token.y);
            sums[at + 2] += products[i][4 * g + 2] * (high_scale * token.x);
            sums[at + 3] += products[i][4 * g + 3] * (high_scale * token.y);
          }
        }
      }
      weights_.advance();
      tokens_.advance();
      free_previous_stage();
    }
  }

  // --- first GEMM: h
  // -------------------------------------------------------------------------------

  // The packed 128-row tile and its 64-row half that m-tile i of this warpgroup is.
  __device__ int packed_tile(const TaskInfo& info) const {
    return T::kMTiles == 1 ? info.task.unit : info.task.unit * 2 + group_;
  }
  __device__ int packed_half(int i) const {
    return T::kMTiles == 1 ? group_ : i;
  }

  static __device__ float swiglu(float gate, float up) {
    return __fdividef(gate, 1.0f + __expf(-gate)) * up;
  }

  template <int kN>
  __device__ void finish_first(const TaskInfo& info, Sums<kN>& sums) {
    const bool shared = info.task.slot < 0;
    const ExpertLayout& layout = shared ? p_.shared_layout : p_.layout;
    const int tile = packed_tile(info);
    const bool mine = tile < layout.tiles1();
    std::byte* h = (shared ? p_.h_shared : p_.h) +
                   std::int64_t{1} * info.h_row * layout.intermediate * T::kElementBytes;
    // Gate and up of h column 8 j + lane / 4 are in one thread; h replaces them, tokens 2q and 2q
    // + 1.
#pragma unroll
    for (int i = 0; i < T::kMTiles; ++i) {
#pragma unroll
      for (int g = 0; g < kN / 8; ++g) {
        sums[i][4 * g] = swiglu(sums[i][4 * g], sums[i][4 * g + 2]);
        sums[i][4 * g + 1] = swiglu(sums[i][4 * g + 1], sums[i][4 * g + 3]);
      }
    }
    if constexpr (T::kFp8) {
      store_h_fp8<kN>(info, sums, h, tile, layout.intermediate);
    } else if (mine) {
#pragma unroll
      for (int i = 0; i < T::kMTiles; ++i) {
        const int column = tile * 64 + (packed_half(i) * 4 + warp_) * 8 + 2 * (lane_ % 4);
#pragma unroll
        for (int g = 0; g < kN / 8; ++g) {
          const std::uint32_t two = transpose_8x8(pack_bf16(sums[i][4 * g], sums[i][4 * g + 1]));
          const int row = 8 * g + lane_ / 4;
          if (row < info.rows) {
            *reinterpret_cast<std::uint32_t*>(
                h + (std::int64_t{1} * row * layout.intermediate + column) * 2) = two;
          }
        }
      }
    }
  }

  // The two warpgroups hold the 128 columns of h that share a scale.
  template <int kN>
  __device__ void store_h_fp8(const TaskInfo& info, Sums<kN>& sums, std::byte* h, int tile,
                              int width) {
    float* maxima =
        s_.row_max[exchange_ ? 1 : 0];  // NOTE: two, so that a fast warpgroup cannot overwrite
    exchange_ = !exchange_;             // what the other still reads
    const int quad = lane_ % 4;
#pragma unroll
    for (int g = 0; g < kN / 8; ++g) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float largest = fmaxf(fabsf(sums[0][4 * g + c]), fabsf(sums[T::kMTiles - 1][4 * g + c]));
        for (int step = 4; step < 32; step *= 2) {
          largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
        }
        if (lane_ < 4) maxima[(consumer_ / 32) * T::kNMax + 8 * g + 2 * quad + c] = largest;
      }
    }
    named_barrier(kConsumerBarrier, kConsumers);
#pragma unroll
    for (int g = 0; g < kN / 8; ++g) {
      std::uint32_t halves[2];  // of one token each: byte i is m-tile i's
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int row = 8 * g + 2 * quad + c;
        float largest = 1e-10f;
        for (int w = 0; w < kConsumerWarps; ++w)
          largest = fmaxf(largest, maxima[w * T::kNMax + row]);
        const float scale = largest / 448.0f;
        halves[c] = pack_e4m3(sums[0][4 * g + c] / scale, sums[T::kMTiles - 1][4 * g + c] / scale);
        if (consumer_ < 4 && row < info.rows) {
          float* scales = info.task.slot < 0 ? p_.h_shared_scales : p_.h_scales;
          scales[std::int64_t{1} * (info.h_row + row) * (width / 128) + info.task.unit] = scale;
        }
      }
      const std::uint32_t two = transpose_8x8(halves[0] | halves[1] << 16);
      const int row = 8 * g + lane_ / 4;
      if (row >= info.rows) continue;
      std::byte* at = h + std::int64_t{1} * row * width + tile * 64 + warp_ * 8 + 2 * quad;
      // Column c of `two`: low byte m-tile 0, high byte m-tile 1, whose columns are 32 further.
      *reinterpret_cast<std::uint16_t*>(at) =
          static_cast<std::uint16_t>((two & 0xff) | (two >> 8 & 0xff00));
      *reinterpret_cast<std::uint16_t*>(at + 32) =
          static_cast<std::uint16_t>((two >> 8 & 0xff) | (two >> 16 & 0xff00));
    }
  }

  // --- second GEMM: y
  // -------------------------------------------------------------------------------

  template <int kN>
  __device__ void finish_second(const TaskInfo& info, Sums<kN>& sums, const std::int32_t* y_row) {
    auto* y = static_cast<std::byte*>(p_.y);
    const int tile = packed_tile(info);
#pragma unroll
    for (int i = 0; i < T::kMTiles; ++i) {
      const int first_column = tile * kTileRows + packed_half(i) * kHalfRows;
      if (first_column >= p_.hidden) break;  // rows of the packed tile beyond the matrix
      const int column = first_column + warp_ * 16 + 2 * (lane_ % 4);
#pragma unroll
      for (int g = 0; g < kN / 8; ++g) {
        const std::uint32_t low = transpose_8x8(pack_bf16(sums[i][4 * g], sums[i][4 * g + 1]));
        const std::uint32_t high = transpose_8x8(pack_bf16(sums[i][4 * g + 2], sums[i][4 * g + 3]));
        const int row = 8 * g + lane_ / 4;
        if (row < info.rows) {
          std::byte* at = y + (std::int64_t{1} * y_row[row] * p_.hidden + column) * 2;
          *reinterpret_cast<std::uint32_t*>(at) = low;
          *reinterpret_cast<std::uint32_t*>(at + 16) = high;
        }
      }
    }
  }

  const Params& p_;
  SharedState<T>& s_;
  const Run& run_;
  int consumer_;
  int group_;
  int warp_;  // within the warpgroup
  int lane_;
  bool exchange_ = false;
  Cursor<T::kWeightStages> weights_;
  Cursor<T::kTokenStages> tokens_;
  Tracer trace_;
};

}  // namespace moeopt::cuda::moe
