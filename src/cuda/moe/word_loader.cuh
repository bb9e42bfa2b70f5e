// With few tokens, the loaders' h: from words, looked at until they are there, in fp8 quantised on
// the way. Owned here: h's way from words to a token stage. Invariant: the scale of a block of 128
// columns and their codes are those that any other tile makes of the same sums (rounding.cuh).
#pragma once

#include "cuda/moe/rounding.cuh"
#include "cuda/moe/route.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class WordLoader {
 public:
  __device__ WordLoader(const Params& p, SharedState<T>& s, const Run& run, int warp, int lane)
      : p_(p), s_(s), run_(run), warp_(warp), lane_(lane) {}

  // The task's h, for the second GEMM. `tokens`: where the task begins in the token ring, then
  // where it ends; `next`: the warp whose turn the next stage is.
  __device__ void load(const TaskInfo& info, Cursor<T::kTokenStages>& tokens, int& next) const {
    const bool shared = info.task.slot < 0;
    const int width = (shared ? p_.shared_intermediate : p_.intermediate) / kColumns;
    const Word* h =
        (shared ? p_.h_shared_words : p_.h_words) + std::int64_t{1} * info.h_row * width;
    const int stages = ceil_div(info.blocks, T::kBlocks);
    const int first = next == warp_ ? 0 : 1;
    const int each = T::kFp8 ? T::kBlocks * info.rows : ceil_div(info.rows, 2);  // items a stage
    const int items = (stages - first + 1) / kLoaderWarps * each;
    Cursor<T::kTokenStages> place = tokens;
    if (first == 1) place.advance();
    Item asked{first, 0};
    Item stored = asked;
#pragma unroll 1
    for (int start = 0; start < items; start += kAtOnce) {
      Word words[kAtOnce][4];
      wait_for_words(info, h, width, asked, each, items - start, words);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (start + i >= items) break;
        if (stored.index == 0) {
          mbarrier_wait(s_.tokens_empty[place.stage], place.phase ^ 1, "a free token stage");
        }
        store(info, words[i], stored, place.stage);
        if (stored.index == each - 1) {
          mbarrier_arrive(s_.tokens_full[place.stage]);
          for (int warp = 0; warp < kLoaderWarps; ++warp) place.advance();
        }
        stored.advance(each);
        asked.advance(each);
      }
    }
#pragma unroll 1
    for (int stage = 0; stage < stages; ++stage) {
      next = next == kLoaderWarps - 1 ? 0 : next + 1;
      tokens.advance();
    }
    __syncwarp();
  }

 private:
  static_assert(T::kFew && T::kBlocks == 2 && kLoaderWarps == 2);
  static constexpr int kColumns = T::kFp8 ? 1 : 2;  // of a word
  static constexpr int kAtOnce = 8;                 // items on their way

  // What a warp's lanes look at together, four words each: in bf16 16 bytes of both blocks of two
  // rows, in fp8 four columns of a block of one row. Items go stage by stage, the other warp's left
  // out.
  struct Item {
    int stage;  // of the task
    int index;  // among the stage's

    __device__ void advance(int each) {
      if (++index == each) {
        index = 0;
        stage += kLoaderWarps;
      }
    }
  };
  __device__ int row_of(const Item& item) const {
    return T::kFp8 ? item.index / T::kBlocks : 2 * item.index + lane_ / 16;
  }
  __device__ int block_of(const Item& item) const {  // of the stage
    return T::kFp8 ? item.index % T::kBlocks : lane_ / 8 % 2;
  }
  __device__ bool has(const TaskInfo& info, const Item& item) const {
    return row_of(item) < info.rows && item.stage * T::kBlocks + block_of(item) < info.blocks;
  }

  // Until kAtOnce items from `first` on are there, of which the task has `left`.
  __device__ void wait_for_words(const TaskInfo& info, const Word* h, int width, const Item& first,
                                 int each, int left, Word (&words)[kAtOnce][4]) const {
    const Watchdog watchdog("h");
    bool there = false;
    while (!there) {
      there = true;
      Item item = first;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) words[i][j] = static_cast<Word>(run_.tag) << 32;
        if (i < left && has(info, item)) {
          const int block = item.stage * T::kBlocks + block_of(item);
          const int in_row = block * (T::kFp8 ? 128 : 32) + lane_ % (T::kFp8 ? 32 : 8) * 4;
          const Word* from = h + std::int64_t{1} * row_of(item) * width + in_row;
          load_words(from, words[i][0], words[i][1]);
          load_words(from + 2, words[i][2], words[i][3]);
        }
        item.advance(each);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) there &= has_tag(words[i][j], run_.tag);
      }
      if (!there) watchdog.look();
    }
    __syncwarp();
  }

  // Into the token stage, as wgmma reads it; in fp8 all lanes.
  __device__ void store(const TaskInfo& info, const Word (&words)[4], const Item& item,
                        int stage) const {
    if (!has(info, item)) return;
    const int row = row_of(item);
    const int block = block_of(item);
    std::byte* line = s_.tokens[stage] + block * T::kTokenBlockBytes + row * kBlockBytes;
    std::uint32_t value[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) value[j] = static_cast<std::uint32_t>(words[j]);
    if constexpr (T::kFp8) {
      float column[4];
      float largest = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        column[j] = __uint_as_float(value[j]);
        largest = fmaxf(largest, fabsf(column[j]));  // NaN counts as nothing
      }
      // Floats that are not negative are ordered like their bits.
      largest = __uint_as_float(__reduce_max_sync(kAllLanes, __float_as_uint(largest)));
      const float scale = scale_of(largest);
      const float inverse = inverse_of(scale);
      const std::uint32_t codes =
          pack_e4m3(quotient(column[0], scale, inverse), quotient(column[1], scale, inverse)) |
          pack_e4m3(quotient(column[2], scale, inverse), quotient(column[3], scale, inverse)) << 16;
      *reinterpret_cast<std::uint32_t*>(line + ((lane_ / 4) ^ (row % 8)) * 16 + lane_ % 4 * 4) =
          codes;
      if (lane_ == 0) s_.token_scales[stage][block * T::kNMax + row] = scale;
    } else {
      *reinterpret_cast<uint4*>(line + ((lane_ % 8) ^ (row % 8)) * 16) = {value[0], value[1],
                                                                          value[2], value[3]};
    }
  }

  const Params& p_;
  SharedState<T>& s_;
  const Run& run_;
  int warp_;
  int lane_;
};

}  // namespace moeopt::cuda::moe
