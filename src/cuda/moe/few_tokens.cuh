// The GEMMs of a task of up to 64 tokens: weights are operand A (64 rows a wgmma), tokens operand
// B, so that a task with few tokens is a narrow N, not padding. With one 64-row tile per warpgroup
// a task's 128 rows are halves of one packed tile; with two, each warpgroup has a packed tile of
// its own; where a task of the second GEMM has one (Tile::kSecondTiles), the first has it. Owned
// here: their K loops, and h and y as these tiles store them. Invariant (batch
// invariance): an element's sum runs along all of K in one accumulator, ascending (fp8: 128
// products at a time, scaled, then added), whatever the width.
#pragma once

#include "cuda/moe/rings.cuh"
#include "cuda/moe/rounding.cuh"
#include "cuda/moe/shared_state.cuh"
#include "cuda/moe/wgmma.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class FewTokens {
 public:
  __device__ FewTokens(const Params& p, SharedState<T>& s, Tracer trace)
      : p_(p), s_(s), run_(s.run), trace_(trace), rings_(s) {
    static_assert(T::kNMax <= 64);
  }

  // The consumers' one tracer.
  __device__ Tracer& trace() { return trace_; }

  __device__ void gemm(const TaskInfo& info) {
    if constexpr (T::kFew) {
      gemm_n<8>(info);
    } else {
      const int rows = info.rows;
      if (rows <= 8) {
        gemm_n<8>(info);
      } else if (rows <= 16) {
        gemm_n<16>(info);
      } else if (rows <= 32) {
        gemm_n<32>(info);
      } else {
        if constexpr (T::kNMax >= 64) gemm_n<64>(info);
      }
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

  template <int kN>
  using Sums = float[T::kMTiles][kN / 2];

  template <int kN>
  __device__ void gemm_n(const TaskInfo& info) {
    if (T::kHalvesSecond && info.task.kind == TaskKind::kSecond && group() >= T::kSecondTiles) {
      pass(info);
      return;
    }
    // NOTE: zeroed also because a register that wgmma reads uninitialised is live around the task
    // loop: then the accumulators of all widths compete.
    Sums<kN> sums = {};
    const bool first = info.task.kind == TaskKind::kFirst;
    if constexpr (T::kFp8) {
      mbarrier_wait(s_.task_scales[info.place.stage], info.place.phase, "weight scales");
    }
    if constexpr (T::kFp8 && T::kBlocks == 2) {
      multiply_fp8_pairs<kN>(info, s_.weight_scales[info.place.stage][0], first, sums);
    } else if constexpr (T::kFp8) {
      multiply_fp8<kN>(info, s_.weight_scales[info.place.stage][group()], first, sums);
    } else {
      multiply_bf16<kN>(info, sums);
    }
#pragma unroll
    for (int i = 0; i < T::kMTiles; ++i) pin(sums[i]);
    stamp(trace_, TracePhase::kDone, info.task);
    if (first) {
      finish_first<kN>(info, sums);
    } else {
      mbarrier_wait(s_.task_rows[info.place.stage], info.place.phase, "y rows");
      finish_second<kN>(info, sums, s_.y_row[info.place.stage]);
    }
  }

  // --- K loops -----------------------------------------------------------------------------------

  // The task has no rows for this warpgroup.
  __device__ void pass(const TaskInfo& info) {
#pragma unroll 1
    for (int block = 0; block < info.blocks; block += T::kBlocks) {
      rings_.wait(false);
      rings_.advance();
      rings_.free_previous();
    }
  }
  __device__ void wait_for_stage(const TaskInfo& info, int block) {
    rings_.wait(true);
    if (block == 0) stamp(trace_, TracePhase::kWaited, info.task);
  }
  // A block of the stage at hand. With one tile a warpgroup has a half of each block's tile, with
  // two a tile.
  __device__ std::uint64_t weights_operand(int block) const {
    const int offset =
        T::kMTiles == 1 ? block * kStageBytes + group() * kHalfBytes : group() * kStageBytes;
    return swizzled_operand(shared_address(rings_.weights()) + offset);
  }
  __device__ std::uint64_t tokens_operand(int block) const {
    return swizzled_operand(shared_address(rings_.tokens()) + block * T::kTokenBlockBytes);
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
        rings_.free_previous();
      }
      rings_.advance();
    }
    wgmma_wait<0>();
    if (whole > 0) rings_.free_previous();
    if (T::kBlocks > 1 && info.blocks % T::kBlocks != 0) {
      wait_for_stage(info, whole);
      issue_bf16<kN, 1>(sums);
      wgmma_wait<0>();
      rings_.advance();
      rings_.free_previous();
    }
  }

  // 128 products by wgmma, times both scales, then into the float32 total: the tensor core's own
  // accumulator keeps too few bits for all of K. Both m-tiles at a time.
  template <int kN>
  __device__ void issue_fp8(Sums<kN>& products, int block = 0) {
    const std::uint64_t weights = weights_operand(block);
    const std::uint64_t tokens = tokens_operand(block);
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
  }
  // Of a block of this warpgroup's packed tile: rows r of a fragment (gate), rows r + 8 (up).
  struct BlockScales {
    float low;
    float high;
  };
  // scales: of the task's tile; in the first GEMM two a block.
  static __device__ BlockScales scales_of(const float* scales, bool first, int block) {
    const int step = first ? 2 : 1;
    const int up = first ? 1 : 0;
    return {scales[block * step], scales[block * step + up]};
  }
  template <int kN>
  __device__ void promote(Sums<kN>& products, BlockScales scales, const float* token_scales,
                          Sums<kN>& total) {
#pragma unroll
    for (int i = 0; i < T::kMTiles; ++i) {
      pin(products[i]);
#pragma unroll
      for (int g = 0; g < kN / 8; ++g) {
        const float2 token = *reinterpret_cast<const float2*>(token_scales + 8 * g);
        total[i][4 * g] += products[i][4 * g] * (scales.low * token.x);
        total[i][4 * g + 1] += products[i][4 * g + 1] * (scales.low * token.y);
        total[i][4 * g + 2] += products[i][4 * g + 2] * (scales.high * token.x);
        total[i][4 * g + 3] += products[i][4 * g + 3] * (scales.high * token.y);
      }
    }
  }
  // Of this thread's tokens, for a block of the stage at hand.
  __device__ const float* token_scales(int block = 0) const {
    return rings_.token_scales() + block * T::kNMax + 2 * (lane() % 4);
  }

  template <int kN>
  __device__ void multiply_fp8(const TaskInfo& info, const float* scales, bool first,
                               Sums<kN>& total) {
    static_assert(T::kBlocks == 1);
    Sums<kN> products = {};
    int block = 0;
    if constexpr (T::kHalvesSecond && kN == 8) {
      // Two blocks at a time: the first one's products are promoted while the second one's are
      // made. (The same across the loop's end is refused by ptxas, C7514.)
      Sums<kN> others = {};
#pragma unroll 1
      for (; block + 1 < info.blocks; block += 2) {
        wait_for_stage(info, block);
        const float* tokens = token_scales();
        issue_fp8<kN>(products);
        rings_.advance();
        wait_for_stage(info, block + 1);
        issue_fp8<kN>(others);
        wgmma_wait<1>();
        promote<kN>(products, scales_of(scales, first, block), tokens, total);
        rings_.free_previous();
        wgmma_wait<0>();
        promote<kN>(others, scales_of(scales, first, block + 1), token_scales(), total);
        rings_.advance();
        rings_.free_previous();
      }
    }
    // (Promoting one while the next runs costs code, which between other kernels is fetched from
    // memory; the other warpgroup fills the gap.)
    for (; block < info.blocks; ++block) {
      const BlockScales block_scales = scales_of(scales, first, block);
      wait_for_stage(info, block);
      issue_fp8<kN>(products);
      wgmma_wait<0>();
      promote<kN>(products, block_scales, token_scales(), total);
      rings_.advance();
      rings_.free_previous();
    }
  }

  // Two blocks a stage: the first one's products are promoted while the second one's are made.
  template <int kN>
  __device__ void multiply_fp8_pairs(const TaskInfo& info, const float* scales, bool first,
                                     Sums<kN>& total) {
    static_assert(T::kBlocks == 2);
    Sums<kN> products = {};
    Sums<kN> others = {};
    int block = 0;
#pragma unroll 1
    for (; block + 1 < info.blocks; block += 2) {
      const BlockScales low = scales_of(scales, first, block);
      const BlockScales high = scales_of(scales, first, block + 1);
      wait_for_stage(info, block);
      issue_fp8<kN>(products);
      issue_fp8<kN>(others, 1);
      wgmma_wait<1>();
      promote<kN>(products, low, token_scales(), total);
      wgmma_wait<0>();
      promote<kN>(others, high, token_scales(1), total);
      rings_.advance();
      rings_.free_previous();
    }
    if (block < info.blocks) {
      wait_for_stage(info, block);
      issue_fp8<kN>(products);
      wgmma_wait<0>();
      promote<kN>(products, scales_of(scales, first, block), token_scales(), total);
      rings_.advance();
      rings_.free_previous();
    }
  }

  // --- first GEMM: h ----------------------------------------------------------------------------

  // The packed 128-row tile and its 64-row half that m-tile i of this warpgroup is.
  __device__ int packed_tile(const TaskInfo& info) const {
    return T::kMTiles == 1 ? info.task.unit : info.task.unit * 2 + group();
  }
  __device__ int packed_half(int i) const {
    return T::kMTiles == 1 ? group() : i;
  }

  template <int kN>
  __device__ void finish_first(const TaskInfo& info, Sums<kN>& sums) {
    const bool shared = info.task.slot < 0;
    const ExpertLayout& layout = shared ? p_.shared_layout : p_.layout;
    if constexpr (T::kFew) {
      finish_first_few(info, sums, shared ? p_.h_shared_words : p_.h_words, layout.intermediate);
      return;
    }
    const int tile = packed_tile(info);
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
    } else if (tile < layout.tiles1()) {
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

  // h [rows][width] as words: of two columns in bf16, or of one in float32, which is quantised by
  // those who read it, since its 128 columns that share a scale come from two tasks.
  __device__ void finish_first_few(const TaskInfo& info, const Sums<8>& sums, Word* h, int width) {
    const int column = packed_tile(info) * 64 + (group() * 4 + warp()) * 8;
    const int quad = lane() % 4;
    const float low = swiglu(sums[0][0], sums[0][2]);  // tokens 2 quad and 2 quad + 1
    const float high = swiglu(sums[0][1], sums[0][3]);
    if constexpr (T::kFp8) {
      Word* to = h + std::int64_t{1} * (info.h_row + 2 * quad) * width + column + lane() / 4;
      if (2 * quad < info.rows) store_word(to, __float_as_uint(low), run_.tag);
      if (2 * quad + 1 < info.rows) store_word(to + width, __float_as_uint(high), run_.tag);
    } else {
      const std::uint32_t two = transpose_8x8(pack_bf16(low, high));
      const int row = lane() / 4;
      if (row < info.rows) {
        store_word(h + (std::int64_t{1} * (info.h_row + row) * width + column) / 2 + quad, two,
                   run_.tag);
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
        float largest = 0;
        for (int w = 0; w < kConsumerWarps; ++w)
          largest = fmaxf(largest, maxima[w * T::kNMax + row]);
        const float scale = scale_of(largest);
        const float inverse = inverse_of(scale);
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

  // --- second GEMM: y ---------------------------------------------------------------------------

  template <int kN>
  __device__ void finish_second(const TaskInfo& info, Sums<kN>& sums, const std::int32_t* y_row) {
    auto* y = static_cast<std::byte*>(p_.y);
    const int tile = T::kHalvesSecond ? info.task.unit : packed_tile(info);
#pragma unroll
    for (int i = 0; i < T::kMTiles; ++i) {
      const int first_column = tile * kTileRows + packed_half(i) * kHalfRows;
      if (first_column >= p_.hidden) break;  // rows of the packed tile beyond the matrix
      const int column = first_column + warp() * 16 + 2 * (lane() % 4);
#pragma unroll
      for (int g = 0; g < kN / 8; ++g) {
        const std::uint32_t low = transpose_8x8(pack_bf16(sums[i][4 * g], sums[i][4 * g + 1]));
        const std::uint32_t high = transpose_8x8(pack_bf16(sums[i][4 * g + 2], sums[i][4 * g + 3]));
        const int row = 8 * g + lane() / 4;
        if (row >= info.rows) continue;
        const std::int64_t element = std::int64_t{1} * y_row[row] * p_.hidden + column;
        if constexpr (T::kFew) {
          Word* at = p_.y_words + element / 2;
          store_word(at, low, run_.tag);
          store_word(at + 4, high, run_.tag);
        } else {
          std::byte* at = y + element * 2;
          *reinterpret_cast<std::uint32_t*>(at) = low;
          *reinterpret_cast<std::uint32_t*>(at + 16) = high;
        }
      }
    }
  }

  const Params& p_;
  SharedState<T>& s_;
  const Run& run_;
  Tracer trace_;
  bool exchange_ = false;
  Rings<T> rings_;
};

}  // namespace moeopt::cuda::moe
