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
#include "cuda/moe/store_tile.cuh"
#include "cuda/moe/wgmma.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class Consumer {
 public:
  __device__ Consumer(const Params& p, SharedState<T>& s)
      : p_(p),
        s_(s),
        run_(s.run),
        trace_(threadIdx.x < 256 ? TraceRole::kWarpgroup0 : TraceRole::kWarpgroup1,
               threadIdx.x % 128 == 0) {}

  __device__ void work() {
    // The cursor in the task ring, in one register: the phase above the stage.
    std::uint32_t place = 0;
    for (;;) {
      const Cursor<kTaskSlots> tasks{static_cast<int>(place & 0xff), place >> 8};
      mbarrier_wait(s_.task_full[tasks.stage], tasks.phase, "a task (consumer)");
      const TaskInfo& info = s_.tasks[tasks.stage];
      const TaskKind kind = info.task.kind;
      if (kind == TaskKind::kEnd) {
        trace_.stamp(TracePhase::kEnd);
        return;
      }
      stamp(trace_, TracePhase::kTask, info.task);
      if (kind == TaskKind::kGate) gate_task(s_.params, s_, run_, info.task, consumer());
      if (kind == TaskKind::kDispatch)
        dispatch_task(s_.params, run_, s_.chosen[0], info.task, consumer());
      if constexpr (T::kLocalLists) {
        if (kind == TaskKind::kList) list_task(s_.params, s_, run_, consumer());
      }
      if (kind == TaskKind::kCombine) combine_task(s_.params, s_, run_, info.task, consumer());
      if constexpr (T::kFp8) {
        if (kind == TaskKind::kQuantise) quantise_task(s_.params, run_, info.task, consumer());
      }
      if (kind == TaskKind::kFirst || kind == TaskKind::kSecond) gemm(info, tasks);
      stamp(trace_, TracePhase::kFinished, info.task);
      if constexpr (T::kFp8) fence_async_shared();  // the copy engine writes the next task's scales
      if constexpr (T::kImages) {
        if (keeps_gathered_) bulk_wait();  // gathered tokens are where the publisher says
      }
      __syncwarp();
      if (lane() == 0) mbarrier_arrive(s_.task_stored[place & 0xff]);
      place = (place & 0xff) == kTaskSlots - 1 ? (place & 0x100) ^ 0x100 : place + 1;
    }
  }

 private:
  // Asked for each time: registers are for sums.
  static __device__ int consumer() { return static_cast<int>(threadIdx.x) - 128; }
  static __device__ int group() { return consumer() / 128; }
  static __device__ int warp() {  // within the warpgroup
    return consumer() / 32 % 4;
  }
  static __device__ int lane() { return consumer() % 32; }

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
    if constexpr (T::kImages) {
      gathered_ = is_gathered(info);
      keeps_gathered_ = keeps_gathered(info);
    }
    if constexpr (T::kFp8) {
      if constexpr (kN >= 128) {
        multiply_fp8_by_tiles<kN>(info, s_.weight_scales[tasks.stage], first, sums);
      } else {
        multiply_fp8<kN>(info, s_.weight_scales[tasks.stage], first, sums);
      }
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
        T::kMTiles == 1 ? block * kStageBytes + group() * kHalfBytes : group() * kStageBytes;
    return swizzled_operand(shared_address(s_.weights[weights_.stage]) + offset);
  }
  __device__ std::uint64_t tokens_operand(int block) const {
    return swizzled_operand(shared_address(s_.tokens[tokens_.stage]) + block * T::kTokenBlockBytes);
  }
  __device__ void wait_for_stage(const TaskInfo& info, int block) {
    mbarrier_wait(s_.weights_full[weights_.stage], weights_.phase, "weights");
    mbarrier_wait(s_.tokens_full[tokens_.stage], tokens_.phase, "tokens");
    // cp.async wrote the tokens, wgmma reads them; images come by the copy engine.
    if (!T::kImages || gathered_) fence_async_shared();
    if constexpr (T::kImages) {
      if (keeps_gathered_) keep_gathered(info, block);
    }
    if (block == 0) stamp(trace_, TracePhase::kWaited, info.task);
  }
  // The loaders gather this task's tokens, row by row.
  __device__ bool is_gathered(const TaskInfo& info) const {
    return info.task.kind == TaskKind::kFirst &&
           (info.task.slot < 0 || info.task.unit == 0 || !run_.launch.gathers);
  }
  // Unit 0 of a routed first GEMM: one thread sends the gathered tokens of each stage to the images
  // from which the other units read them.
  __device__ bool keeps_gathered(const TaskInfo& info) const {
    return consumer() == 0 && run_.launch.gathers && info.task.kind == TaskKind::kFirst &&
           info.task.slot >= 0 && info.task.unit == 0;
  }
  __device__ void keep_gathered(const TaskInfo& info, int block) {
    const auto rows = static_cast<std::uint32_t>(image_rows(info.rows));
    const std::int64_t line =
        std::int64_t{1} * info.h_row * info.blocks + std::int64_t{1} * block * rows;
    bulk_store(p_.x_images + line * kBlockBytes, s_.tokens[tokens_.stage], rows * kBlockBytes);
    if constexpr (T::kFp8) {
      bulk_store(p_.x_image_scales + line, s_.token_scales[tokens_.stage], rows * 4);
    }
    bulk_commit();
  }
  template <int kSending>
  __device__ void free_stage(int weights, int tokens) {
    // What this thread sent from the stage has been read; kSending stages may still be being read.
    if constexpr (T::kImages) {
      if (keeps_gathered_) bulk_wait_read<kSending>();
    }
    __syncwarp();
    if (lane() == 0) {
      mbarrier_arrive(s_.weights_empty[weights]);
      mbarrier_arrive(s_.tokens_empty[tokens]);
    }
  }
  static __device__ int previous(int stage, int stages) {
    return stage == 0 ? stages - 1 : stage - 1;
  }
  template <int kSending = 0>
  __device__ void free_previous_stage() {
    free_stage<kSending>(previous(weights_.stage, T::kWeightStages),
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
        free_previous_stage<1>();
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

  // kPart columns of products of one m-tile, times both scales, into its sums from `column` on.
  template <int kPart, int kSums>
  static __device__ void promote(float (&products)[kPart / 2], float (&sums)[kSums], int column,
                                 const float* token_scales, float low_scale, float high_scale) {
    pin(products);
#pragma unroll
    for (int g = 0; g < kPart / 8; ++g) {
      const float2 token = *reinterpret_cast<const float2*>(token_scales + column + 8 * g);
      const int at = column / 2 + 4 * g;
      sums[at] += products[4 * g] * (low_scale * token.x);
      sums[at + 1] += products[4 * g + 1] * (low_scale * token.y);
      sums[at + 2] += products[4 * g + 2] * (high_scale * token.x);
      sums[at + 3] += products[4 * g + 3] * (high_scale * token.y);
    }
  }

  // 128 products by wgmma, times both scales, then into the float32 total: the tensor core's own
  // accumulator keeps too few bits for all of K. Both m-tiles at a time.
  // (Promoting one while the next runs is refused by ptxas, C7514; the other warpgroup fills the
  // gap.)
  template <int kN>
  __device__ void multiply_fp8(const TaskInfo& info, const float* scales, bool first,
                               Sums<kN>& total) {
    static_assert(T::kBlocks == 1);
    // Of this warpgroup's packed tile: rows r of a fragment (gate), rows r + 8 (up).
    const int padded = static_cast<int>(align_up((first ? 2 : 1) * info.blocks, 4));
    const float* low = scales + (thread_again() / 128 - 1) * padded;
    const float* high = first ? low + info.blocks : low;
    float products[T::kMTiles][kN / 2] = {};
    for (int block = 0; block < info.blocks; ++block) {
      const float low_scale = low[block];
      const float high_scale = high[block];
      wait_for_stage(info, block);
      const std::uint64_t weights = weights_operand(0);
      const float* token_scales = s_.token_scales[tokens_.stage] + 2 * (lane() % 4);
      const std::uint64_t tokens = tokens_operand(0);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < 4; ++step) {
#pragma unroll
        for (int i = 0; i < T::kMTiles; ++i) {
          wgmma_e4m3<kN>(products[i], weights + i * (kHalfBytes >> 4) + step * 2, tokens + step * 2,
                         step > 0);
        }
      }
      wgmma_commit();
      wgmma_wait<0>();
#pragma unroll
      for (int i = 0; i < T::kMTiles; ++i) {
        promote<kN>(products[i], total[i], 0, token_scales, low_scale, high_scale);
      }
      weights_.advance();
      tokens_.advance();
      free_previous_stage();
    }
  }

  // The same with one m-tile of 128 columns at a time: while a warpgroup promotes, the other's
  // products may keep the tensor cores busy.
  template <int kN>
  __device__ void multiply_fp8_by_tiles(const TaskInfo& info, const float* scales, bool first,
                                        Sums<kN>& total) {
    constexpr int kPart = 64;  // columns: products of 128 do not fit beside the sums
    const int padded = static_cast<int>(align_up((first ? 2 : 1) * info.blocks, 4));
    const float* low = scales + (thread_again() / 128 - 1) * padded;
    const float* high = first ? low + info.blocks : low;
    const int blocks = info.blocks;
    float products[kPart / 2] = {};
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
      const float low_scale = low[block];
      const float high_scale = high[block];
      wait_for_stage(info, block);
      const std::uint64_t weights = weights_operand(0);
      const std::uint64_t tokens = tokens_operand(0);
      const float* token_scales = s_.token_scales[tokens_.stage] + 2 * (lane() % 4);
#pragma unroll
      for (int i = 0; i < T::kMTiles; ++i) {
#pragma unroll
        for (int part = 0; part < kN / kPart; ++part) {
          wgmma_fence();
#pragma unroll
          for (int step = 0; step < 4; ++step) {
            wgmma_e4m3<kPart>(products, weights + i * (kHalfBytes >> 4) + step * 2,
                              tokens + part * (kPart * kBlockBytes >> 4) + step * 2, step > 0);
          }
          wgmma_commit();
          wgmma_wait<0>();
          promote<kPart>(products, total[i], part * kPart, token_scales, low_scale, high_scale);
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
    return T::kMTiles == 1 ? info.task.unit : info.task.unit * 2 + group();
  }
  __device__ int packed_half(int i) const {
    return T::kMTiles == 1 ? group() : i;
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
    if constexpr (T::kFp8 && T::kImages) {
      store_h_fp8_image<kN>(info, sums, h, layout.intermediate);
    } else if constexpr (T::kFp8) {
      store_h_fp8<kN>(info, sums, h, tile, layout.intermediate);
    } else if constexpr (T::kImages) {
      if (mine) store_h_image<kN>(info, sums, h, tile);
    } else if (mine) {
#pragma unroll
      for (int i = 0; i < T::kMTiles; ++i) {
        const int column = tile * 64 + (packed_half(i) * 4 + warp()) * 8 + 2 * (lane() % 4);
#pragma unroll
        for (int g = 0; g < kN / 8; ++g) {
          const std::uint32_t two = transpose_8x8(pack_bf16(sums[i][4 * g], sums[i][4 * g + 1]));
          const int row = 8 * g + lane() / 4;
          if (row < info.rows) {
            *reinterpret_cast<std::uint32_t*>(
                h + (std::int64_t{1} * row * layout.intermediate + column) * 2) = two;
          }
        }
      }
    }
  }

  // K block `tile` of the token tile's h: this warpgroup's 64 columns.
  template <int kN>
  __device__ void store_h_image(const TaskInfo& info, Sums<kN>& sums, std::byte* h, int tile) {
    constexpr int kTokens = kN < kStagedTokens ? kN : kStagedTokens;
    const int rows = image_rows(info.rows);
    const int thread = thread_again() % 128;
    const int lane = thread % 32;
    const int warp = thread / 32;
    const int group = thread_again() / 128 - 1;
    const std::uint32_t staging = shared_address(s_.staging[group]);
    std::byte* image = h + std::int64_t{1} * tile * rows * kBlockBytes;
#pragma unroll
    for (int start = 0; start < kN; start += kTokens) {
      std::uint32_t low[kTokens / 8];
      std::uint32_t high[kTokens / 8];
#pragma unroll
      for (int g = 0; g < kTokens / 8; ++g) {
        const int at = 4 * (start / 8 + g);
        low[g] = pack_bf16(sums[0][at], sums[0][at + 1]);
        high[g] = pack_bf16(sums[T::kMTiles - 1][at], sums[T::kMTiles - 1][at + 1]);
      }
      stage_columns(staging, low, high, warp, 4 + warp, lane);
      warpgroup_barrier(group);
      copy_image(staging, image + start * kBlockBytes, min(rows - start, kTokens), warp * 32 + lane,
                 128);
      warpgroup_barrier(group);
    }
  }

  // value / scale, to the last bit while nothing overflows (inverse: 1 / scale, rounded right).
  static __device__ float quotient(float value, float scale, float inverse) {
    const float near = value * inverse;
    return fmaf(fmaf(-near, scale, value), inverse, near);
  }

  // The two warpgroups hold the 128 columns of h that share a scale.
  template <int kN>
  __device__ void store_h_fp8(const TaskInfo& info, Sums<kN>& sums, std::byte* h, int tile,
                              int width) {
    float* maxima =
        s_.row_max[exchange_ ? 1 : 0];  // NOTE: two, so that a fast warpgroup cannot overwrite
    exchange_ = !exchange_;             // what the other still reads
    const int quad = lane() % 4;
#pragma unroll
    for (int g = 0; g < kN / 8; ++g) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float largest = fmaxf(fabsf(sums[0][4 * g + c]), fabsf(sums[T::kMTiles - 1][4 * g + c]));
        for (int step = 4; step < 32; step *= 2) {
          largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
        }
        if (lane() < 4) maxima[(consumer() / 32) * T::kNMax + 8 * g + 2 * quad + c] = largest;
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
        const float inverse = 1.0f / scale;
        halves[c] = pack_e4m3(quotient(sums[0][4 * g + c], scale, inverse),
                              quotient(sums[T::kMTiles - 1][4 * g + c], scale, inverse));
        if (consumer() < 4 && row < info.rows) {
          float* scales = info.task.slot < 0 ? p_.h_shared_scales : p_.h_scales;
          scales[std::int64_t{1} * (info.h_row + row) * (width / 128) + info.task.unit] = scale;
        }
      }
      const std::uint32_t two = transpose_8x8(halves[0] | halves[1] << 16);
      const int row = 8 * g + lane() / 4;
      if (row >= info.rows) continue;
      std::byte* at = h + std::int64_t{1} * row * width + tile * 64 + warp() * 8 + 2 * quad;
      // Column c of `two`: low byte m-tile 0, high byte m-tile 1, whose columns are 32 further.
      *reinterpret_cast<std::uint16_t*>(at) =
          static_cast<std::uint16_t>((two & 0xff) | (two >> 8 & 0xff00));
      *reinterpret_cast<std::uint16_t*>(at + 32) =
          static_cast<std::uint16_t>((two >> 8 & 0xff) | (two >> 16 & 0xff00));
    }
  }

  // Largest of each value over the lanes of the same quad position; values are spread over the
  // lanes on the way: lane (r, q) keeps kCount / 8 of them, from kCount / 8 * r on.
  template <int kCount>
  static __device__ void spread_maxima(float (&values)[kCount], int lane) {
    spread_step<kCount / 2>(values, lane, 16);
    spread_step<kCount / 4>(values, lane, 8);
    spread_step<kCount / 8>(values, lane, 4);
  }
  template <int kHalf, int kCount>
  static __device__ void spread_step(float (&values)[kCount], int lane, int bit) {
    const bool upper = (lane & bit) != 0;
#pragma unroll
    for (int j = 0; j < kHalf; ++j) {
      const float keep = upper ? values[j + kHalf] : values[j];
      const float give = upper ? values[j] : values[j + kHalf];
      values[j] = fmaxf(keep, __shfl_xor_sync(kAllLanes, give, bit));
    }
  }

  // The same into a stage image, whose K block is the unit; the scales of a token once for all.
  template <int kN>
  __device__ void store_h_fp8_image(const TaskInfo& info, Sums<kN>& sums, std::byte* h, int width) {
    float* maxima = s_.row_max[0];
    const int thread = thread_again() - 128;
    const int lane = thread % 32;
    const int warp = thread / 32;
    const int quad = lane % 4;
    constexpr int kValues = kN / 4;  // of a lane: tokens 8 g + 2 quad + c at 2 g + c
    float values[kValues];
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const int at = i / 2 * 4 + i % 2;
      values[i] = fmaxf(fabsf(sums[0][at]), fabsf(sums[T::kMTiles - 1][at]));
    }
    if constexpr (kValues >= 8) {
      spread_maxima(values, lane);
#pragma unroll
      for (int j = 0; j < kValues / 8; ++j) {
        const int i = kValues / 8 * (lane / 4) + j;
        maxima[warp * T::kNMax + i / 2 * 8 + 2 * quad + i % 2] = values[j];
      }
    } else {
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        for (int step = 4; step < 32; step *= 2) {
          values[i] = fmaxf(values[i], __shfl_xor_sync(kAllLanes, values[i], step));
        }
        if (lane < 4) maxima[warp * T::kNMax + i / 2 * 8 + 2 * quad + i % 2] = values[i];
      }
    }
    named_barrier(kConsumerBarrier, kConsumers);
    const int rows = image_rows(info.rows);
    if (const int row = thread; row < kN) {
      float largest = 1e-10f;
      for (int w = 0; w < kConsumerWarps; ++w) largest = fmaxf(largest, maxima[w * T::kNMax + row]);
      const float scale = largest / 448.0f;
      maxima[row] = scale;  // this thread alone read this place
      maxima[T::kNMax + row] = 1.0f / scale;
      if (row < info.rows) {
        float* scales = info.task.slot < 0 ? p_.h_shared_scales : p_.h_scales;
        scales[std::int64_t{1} * info.h_row * (width / 128) +
               std::int64_t{1} * info.task.unit * rows + row] = scale;
      }
    }
    named_barrier(kConsumerBarrier, kConsumers);
    const std::uint32_t staging = shared_address(s_.staging);  // of both warpgroups: one image
    const int chunk = warp / 4 * 4 + warp % 4 / 2;
    const std::uint32_t to = staging + lane / 4 * kBlockBytes + warp % 2 * 8 + 2 * quad;
    const std::uint32_t to_low = to + (chunk ^ lane / 4) * 16;
    const std::uint32_t to_high = to + ((chunk + 2) ^ lane / 4) * 16;
#pragma unroll
    for (int g = 0; g < kN / 8; ++g) {
      const float2 scale = *reinterpret_cast<const float2*>(maxima + 8 * g + 2 * quad);
      const float2 inverse = *reinterpret_cast<const float2*>(maxima + T::kNMax + 8 * g + 2 * quad);
      const float(&low)[kN / 2] = sums[0];
      const float(&high)[kN / 2] = sums[T::kMTiles - 1];
      const std::uint32_t first = pack_e4m3(quotient(low[4 * g], scale.x, inverse.x),
                                            quotient(high[4 * g], scale.x, inverse.x));
      const std::uint32_t second = pack_e4m3(quotient(low[4 * g + 1], scale.y, inverse.y),
                                             quotient(high[4 * g + 1], scale.y, inverse.y));
      const std::uint32_t two = transpose_8x8(first | second << 16);
      // Column c of `two`: low byte m-tile 0, high byte m-tile 1, whose columns are 32 further.
      store_shared_2(to_low + g * 8 * kBlockBytes, (two & 0xff) | (two >> 8 & 0xff00));
      store_shared_2(to_high + g * 8 * kBlockBytes, (two >> 8 & 0xff) | (two >> 16 & 0xff00));
    }
    named_barrier(kConsumerBarrier, kConsumers);
    copy_image(staging, h + std::int64_t{1} * info.task.unit * rows * kBlockBytes, rows, thread,
               kConsumers);
    named_barrier(kConsumerBarrier, kConsumers);
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
      if constexpr (T::kImages) {
        store_y_lines<kN>(info, sums[i], y + std::int64_t{2} * first_column, y_row);
        continue;
      }
      const int column = first_column + warp() * 16 + 2 * (lane() % 4);
#pragma unroll
      for (int g = 0; g < kN / 8; ++g) {
        const std::uint32_t low = transpose_8x8(pack_bf16(sums[i][4 * g], sums[i][4 * g + 1]));
        const std::uint32_t high = transpose_8x8(pack_bf16(sums[i][4 * g + 2], sums[i][4 * g + 3]));
        const int row = 8 * g + lane() / 4;
        if (row < info.rows) {
          std::byte* at = y + (std::int64_t{1} * y_row[row] * p_.hidden + column) * 2;
          *reinterpret_cast<std::uint32_t*>(at) = low;
          *reinterpret_cast<std::uint32_t*>(at + 16) = high;
        }
      }
    }
  }

  // 64 columns of y, from `y` on, of the tile's tokens.
  template <int kN>
  __device__ void store_y_lines(const TaskInfo& info, const float (&sums)[kN / 2], std::byte* y,
                                const std::int32_t* y_row) {
    constexpr int kTokens = kN < kStagedTokens ? kN : kStagedTokens;
    const int thread = thread_again() % 128;
    const int lane = thread % 32;
    const int warp = thread / 32;
    const int group = thread_again() / 128 - 1;
    const std::uint32_t staging = shared_address(s_.staging[group]);
    const int chunk = thread % 8;
#pragma unroll
    for (int start = 0; start < kN; start += kTokens) {
      std::uint32_t low[kTokens / 8];
      std::uint32_t high[kTokens / 8];
#pragma unroll
      for (int g = 0; g < kTokens / 8; ++g) {
        const int at = 4 * (start / 8 + g);
        low[g] = pack_bf16(sums[at], sums[at + 1]);
        high[g] = pack_bf16(sums[at + 2], sums[at + 3]);
      }
      stage_columns(staging, low, high, 2 * warp, 2 * warp + 1, lane);
      warpgroup_barrier(group);
#pragma unroll
      for (int token = thread / 8; token < kTokens; token += 16) {
        const int row = start + token;
        if (row >= info.rows) break;
        *reinterpret_cast<uint4*>(y + std::int64_t{2} * y_row[row] * p_.hidden + chunk * 16) =
            load_shared_16(staging + token * kBlockBytes + (chunk ^ token % 8) * 16);
      }
      warpgroup_barrier(group);
    }
  }

  const Params& p_;
  SharedState<T>& s_;
  const Run& run_;
  bool exchange_ = false;
  bool gathered_ = false;  // of the task at hand; asked at every stage
  bool keeps_gathered_ = false;
  Cursor<T::kWeightStages> weights_;
  Cursor<T::kTokenStages> tokens_;
  Tracer trace_;
};

}  // namespace moeopt::cuda::moe
