// The GEMMs of a task of up to 128 tokens: tokens are operand A, 64 of them a warpgroup, and the
// task's 256 rows of weights are operand B. So a thread's sums belong to two tokens, whose scales
// (fp8) it keeps in two registers, and a warp stores 16 tokens without meeting another warp.
// Owned here: their K loops, and h and y as this tile stores them. Invariant (batch invariance): an
// element's sum runs along all of K in one accumulator, ascending (fp8: 128 products at a time,
// scaled, then added), as in few_tokens.cuh: bit for bit the same.
#pragma once

#include "cuda/moe/combine.cuh"
#include "cuda/moe/rings.cuh"
#include "cuda/moe/rounding.cuh"
#include "cuda/moe/shared_state.cuh"
#include "cuda/moe/wgmma.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class ManyTokens {
 public:
  __device__ ManyTokens(const Params& p, SharedState<T>& s, Tracer trace)
      : p_(p), s_(s), trace_(trace), ring_(s) {
    static_assert(T::kMTiles == 2 && T::kNMax == 2 * kGroupTokens);
  }

  // The consumers' one tracer.
  __device__ Tracer& trace() { return trace_; }

  __device__ void gemm(const TaskInfo& info) {
    if (info.rows <= group() * kGroupTokens) {
      pass_stages(info);
      return;
    }
    // NOTE: zeroed also because a register that wgmma reads uninitialised is live around the task
    // loop.
    float sums[kSums] = {};
    if constexpr (T::kFp8) {
      multiply_fp8(info, sums);
    } else {
      multiply_bf16(info, sums);
    }
    pin(sums);
    stamp(trace_, TracePhase::kDone, info.task);
    if (info.task.kind == TaskKind::kFirst) {
      store_h(info, sums);
    } else {
      mbarrier_wait(s_.task_rows[info.place.stage], info.place.phase, "y rows");
      store_y(info, sums, s_.y_row[info.place.stage]);
    }
  }

  // A task of the combination, whose y comes by the same ring.
  __device__ void combine(const TaskInfo& info, const Run& run) {
    combine_staged(p_, s_, run, info.task, ring_, thread_again() - 128);
  }

 private:
  static constexpr int kGroupTokens = 64;  // of a warpgroup
  static constexpr int kWarpRows = 16;     // tokens of a warp, as wgmma deals them
  static constexpr int kSums = 128;        // two tokens x 64 columns
  static constexpr int kTileSums = kSums / 2;

  // Asked for each time: registers are for sums.
  static __device__ int group() { return thread_again() / 128 - 1; }
  static __device__ int lane() { return thread_again() % 32; }
  // This warp's first token, of the task.
  static __device__ int first_row() { return (thread_again() / 32 - 4) * kWarpRows; }

  // --- K loops -----------------------------------------------------------------------------------

  // A task with no token for this warpgroup.
  __device__ void pass_stages(const TaskInfo& info) {
#pragma unroll 1
    for (int block = 0; block < info.blocks; ++block) {
      ring_.wait();
      ring_.free();
      ring_.advance();
    }
  }
  __device__ std::uint64_t tokens_operand() const {
    return swizzled_operand(shared_address(ring_.tokens()) + group() * kHalfBytes);
  }
  __device__ std::uint64_t weights_operand() const {
    return swizzled_operand(shared_address(ring_.weights()));
  }

  // A stage's products run while the next stage is waited for.
  __device__ void multiply_bf16(const TaskInfo& info, float (&sums)[kSums]) {
#pragma unroll 1
    for (int block = 0; block < info.blocks; ++block) {
      ring_.wait();
      if (block == 0) stamp(trace_, TracePhase::kWaited, info.task);
      const std::uint64_t tokens = tokens_operand();
      const std::uint64_t weights = weights_operand();
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        wgmma_bf16<256>(sums, tokens + step * 2, weights + step * 2, 1);
      }
      wgmma_commit();
      if (block > 0) {
        wgmma_wait<1>();
        ring_.free_previous();
      }
      ring_.advance();
    }
    wgmma_wait<0>();
    ring_.free_previous();
  }

  // A packed tile at a time: 128 products by wgmma, times both scales, then into the float32 sums:
  // the tensor core's own accumulator keeps too few bits for all of K. While a warpgroup does that,
  // the other's products run; all else happens while its own do.
  __device__ void multiply_fp8(const TaskInfo& info, float (&sums)[kSums]) {
    float products[kTileSums] = {};
    // Addresses are counted on: a chain of reads from shared memory would take longer than the
    // products beside it.
    const bool first = info.task.kind == TaskKind::kFirst;
    std::uint32_t of_weights = shared_address(s_.weight_scales[info.place.stage]);
    const std::uint32_t of_tokens = static_cast<std::uint32_t>(first_row() + lane() / 4) * 4;
    mbarrier_wait(s_.task_scales[info.place.stage], info.place.phase, "weight scales");
    ring_.wait();
    stamp(trace_, TracePhase::kWaited, info.task);
    // Low words of operands, of the ring's first stage.
    const auto tokens = static_cast<std::uint32_t>(
        swizzled_operand(shared_address(s_.tokens) + group() * kHalfBytes));
    const auto weights = static_cast<std::uint32_t>(swizzled_operand(shared_address(s_.weights)));
#pragma unroll 1
    for (int left = info.blocks; left > 0; --left) {
      const std::uint32_t a = tokens + ring_.stage() * (T::kTokenStageBytes >> 4);
      const std::uint32_t b = weights + ring_.stage() * (T::kWeightStageBytes >> 4);
      float token[2];
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; ++step) {
          wgmma_e4m3<128>(products, swizzled_operand_of(a + step * 2),
                          swizzled_operand_of(b + tile * (kStageBytes >> 4) + step * 2), step > 0);
        }
        wgmma_commit();
        const std::uint32_t at = of_weights + tile * T::kScaleFloats * 4;
        const float weight[2] = {load_shared_float(at), load_shared_float(at + (first ? 4 : 0))};
        if (tile == 0) {
          const std::uint32_t scales = shared_address(ring_.token_scales()) + of_tokens;
          token[0] = load_shared_float(scales);
          token[1] = load_shared_float(scales + 32);
        } else {
          of_weights += first ? 8 : 4;
          ring_.advance();
          if (left > 1) ring_.wait();
        }
        wgmma_wait<0>();
        if (tile == 1) ring_.free_previous();
        promote(products, sums, tile, weight, token);
      }
    }
  }
  static __device__ __forceinline__ void promote(float (&products)[kTileSums], float (&sums)[kSums],
                                                 int tile, const float (&weight)[2],
                                                 const float (&token)[2]) {
    pin(products);
    const float scale[2][2] = {{weight[0] * token[0], weight[0] * token[1]},
                               {weight[1] * token[0], weight[1] * token[1]}};
#pragma unroll
    for (int i = 0; i < kTileSums; ++i) {
      sums[tile * kTileSums + i] += products[i] * scale[i / 4 % 2][i / 2 % 2];
    }
  }

  // --- epilogues: 16 tokens x 128 bytes of a warp at a time, through shared memory ---------------

  __device__ std::uint32_t staging() const {
    return shared_address(s_.staging) + static_cast<std::uint32_t>(first_row()) * kBlockBytes;
  }
  // Where row `row` of the warp has its 16-byte chunk `chunk`, in the 128-byte swizzle.
  static __device__ std::uint32_t staged(int row, int chunk) {
    return static_cast<std::uint32_t>(row * kBlockBytes + (chunk ^ row % 8) * 16);
  }
  // Sixteen bf16 columns of 16 tokens, from chunk `chunk` on: low and high tokens' columns 0 .. 7,
  // then 8 .. 15.
  __device__ void stage(std::uint32_t staging, int chunk, std::uint32_t a, std::uint32_t b,
                        std::uint32_t c, std::uint32_t d) const {
    const int lane = this->lane();
    store_matrices(staging + staged(lane % 16, chunk + lane / 16), a, b, c, d);
  }

  __device__ void store_h(const TaskInfo& info, float (&sums)[kSums]) {
    // Gate in column group 2 j, up in 2 j + 1; h replaces the gate.
#pragma unroll
    for (int j = 0; j < kSums / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[8 * j + i] = swiglu(sums[8 * j + i], sums[8 * j + 4 + i]);
    }
    const bool shared = info.task.slot < 0;
    const ExpertLayout& layout = shared ? p_.shared_layout : p_.layout;
    const int rows = image_rows(info.rows);
    const int stored = min(rows - first_row(), kWarpRows);
    std::byte* image = (shared ? p_.h_shared : p_.h) +
                       std::int64_t{1} * info.h_row * layout.intermediate * T::kElementBytes +
                       first_row() * kBlockBytes;
    if constexpr (T::kFp8) {
      const std::int64_t groups = layout.intermediate / 128;
      float* scales = (shared ? p_.h_shared_scales : p_.h_scales) + info.h_row * groups +
                      std::int64_t{1} * info.task.unit * rows;
      stage_e4m3(sums, scales, info.rows);
      __syncwarp();
      copy_rows(image + std::int64_t{1} * info.task.unit * rows * kBlockBytes, stored);
      __syncwarp();
    } else {
      const std::uint32_t to = staging();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int block = info.task.unit * 2 + half;  // of K of the second GEMM
        if (block >= layout.tiles1()) break;
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
          const float* two = sums + 64 * half + 8 * j;
          stage(to, j, pack_bf16(two[0], two[1]), pack_bf16(two[2], two[3]),
                pack_bf16(two[8], two[9]), pack_bf16(two[10], two[11]));
        }
        __syncwarp();
        copy_rows(image + std::int64_t{1} * block * rows * kBlockBytes, stored);
        __syncwarp();
      }
    }
  }

  // The unit's 128 columns of h share a scale: the four lanes that have a token hold all of them.
  __device__ void stage_e4m3(const float (&sums)[kSums], float* scales, int rows) const {
    const int lane = this->lane();
    const std::uint32_t to = staging();
#pragma unroll
    for (int high = 0; high < 2; ++high) {
      float largest = 0;
#pragma unroll
      for (int j = 0; j < kSums / 8; ++j) {
        largest =
            fmaxf(largest, fmaxf(fabsf(sums[8 * j + 2 * high]), fabsf(sums[8 * j + 2 * high + 1])));
      }
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
      const float scale = scale_of(largest);
      const float inverse = inverse_of(scale);
      const int row = lane / 4 + 8 * high;
      if (lane % 4 == 0 && first_row() + row < rows) scales[first_row() + row] = scale;
#pragma unroll
      for (int j = 0; j < kSums / 8; ++j) {
        store_shared_2(to + staged(row, j / 2) + j % 2 * 8 + lane % 4 * 2,
                       pack_e4m3(quotient(sums[8 * j + 2 * high], scale, inverse),
                                 quotient(sums[8 * j + 2 * high + 1], scale, inverse)));
      }
    }
  }

  // The first `rows` staged rows of this warp, as they lie.
  __device__ void copy_rows(std::byte* to, int rows) const {
    const int lane = this->lane();
    const std::uint32_t from = staging();
#pragma unroll
    for (int i = 0; i < kWarpRows / 4; ++i) {
      const int chunk = lane + 32 * i;
      if (chunk / 8 < rows) {
        *reinterpret_cast<uint4*>(to + chunk * 16) = load_shared_16(from + chunk * 16);
      }
    }
  }

  __device__ void store_y(const TaskInfo& info, float (&sums)[kSums], const std::int32_t* y_row) {
    const int lane = this->lane();
    const std::uint32_t to = staging();
    const int chunk = lane % 8;
    const int first_column = info.task.unit * 2 * kTileRows;
    const int parts = (p_.hidden - first_column) / 64;  // beyond: packed rows that are no columns
    const int row = first_row() + lane / 8;             // this lane's: row + 4 i
    const int left = info.rows - row;
    std::byte* lines[kWarpRows / 4];
#pragma unroll
    for (int i = 0; i < kWarpRows / 4; ++i) {
      lines[i] = static_cast<std::byte*>(p_.y) +
                 (std::int64_t{1} * y_row[row + 4 * i] * p_.hidden + first_column + chunk * 8) * 2;
    }
#pragma unroll
    for (int part = 0; part < 4; ++part) {  // 64 columns
      if (part >= parts) break;
#pragma unroll
      for (int g = 0; g < 8; g += 2) {
        const float* two = sums + 32 * part + 4 * g;
        stage(to, g, pack_bf16(two[0], two[1]), pack_bf16(two[2], two[3]),
              pack_bf16(two[4], two[5]), pack_bf16(two[6], two[7]));
      }
      __syncwarp();
      uint4 line[kWarpRows / 4];  // all on their way before the first is stored
#pragma unroll
      for (int i = 0; i < kWarpRows / 4; ++i) {
        line[i] = load_shared_16(to + staged(lane / 8 + 4 * i, chunk));
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kWarpRows / 4; ++i) {
        if (4 * i < left) *reinterpret_cast<uint4*>(lines[i] + part * kBlockBytes) = line[i];
      }
    }
  }

  const Params& p_;
  SharedState<T>& s_;
  Tracer trace_;
  Ring<T> ring_;
};

}  // namespace moeopt::cuda::moe
