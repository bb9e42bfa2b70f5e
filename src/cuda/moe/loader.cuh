// Warps 1 and 2: gather the tokens of each task, 128 bytes of K at a time, into the token ring.
// Owned here: the ring's filling and its swizzle. Invariant: only rows of the task are written;
// columns beyond hold whatever was there, which wgmma keeps apart and no epilogue reads.
#pragma once

#include <type_traits>

#include "cuda/moe/image_loader.cuh"
#include "cuda/moe/lists.cuh"
#include "cuda/moe/shared_state.cuh"
#include "cuda/moe/word_loader.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class Loader {
 public:
  __device__ Loader(const Params& p, SharedState<T>& s)
      : p_(p),
        s_(s),
        run_(s.run),
        lane_(static_cast<int>(threadIdx.x) % 32),
        warp_(static_cast<int>(threadIdx.x) / 32 - 1),
        images_(s),
        trace_(TraceRole::kLoader, threadIdx.x == 32) {}

  __device__ void work() {
    if (warp_ == 0) clear_other_set();
    Cursor<T::kTaskSlots> tasks;
    for (;;) {
      mbarrier_wait(s_.task_full[tasks.stage], tasks.phase, "a task (loader)");
      wait_for_readers(s_, tasks);
      const TaskInfo info = s_.tasks[tasks.stage];
      if (info.task.kind == TaskKind::kEnd) break;
      stamp(trace_, TracePhase::kTask, info.task);
      if (info.gemm()) {
        if constexpr (T::kImages) {
          images_.find_rows(info, tasks.stage);
        } else {
          find_rows(info, tasks.stage);
        }
      }
      // Once a task, though only the second GEMM's consumers look.
      if (warp_ == kRowsWarp) mbarrier_arrive(s_.task_rows[tasks.stage]);
      if (info.gemm()) {
        if constexpr (T::kImages) {
          images_.load(info, trace_);
        } else {
          load(info);
        }
      }
      if constexpr (T::kImages) {
        if (info.task.kind == TaskKind::kCombine) images_.load_y(info, trace_);
      }
      arrive_for_warp(s_.task_empty[tasks.stage]);
      tasks.advance();
    }
    // The ring must be at rest before the block leaves.
    asm volatile("cp.async.wait_all;" ::: "memory");
  }

 private:
  static constexpr int kRowsWarp = T::kImages ? 1 : 0;  // writes y_row

  // This block's share of the counters of the next launch: nobody uses them in this one.
  __device__ void clear_other_set() {
    auto* other = reinterpret_cast<uint4*>(set_of(p_, run_.number + 1));
    const std::uint64_t count = p_.set_bytes / sizeof(uint4);
    for (std::uint64_t i = blockIdx.x * 32 + static_cast<unsigned>(lane_); i < count;
         i += gridDim.x * 32) {
      other[i] = uint4{};
    }
  }

  // For each row of the task, where it is in x or h, and for the second GEMM where its y goes.
  __device__ void find_rows(const TaskInfo& info, int slot) {
    const bool shared = info.task.slot < 0;
    const bool first = info.task.kind == TaskKind::kFirst;
    if (local_lists<T>(p_) && !shared && !listed_) {
      mbarrier_wait(producer_lists<T>(p_, run_) ? s_.planned : s_.listed, 0, "this block's lists");
      listed_ = true;
    }
#pragma unroll 1
    for (int row = lane_; row < info.rows; row += 32) {
      const int entry = shared ? (info.first_row + row) * p_.top_k : entry_of(p_, s_, info, row);
      const int token = entry / p_.top_k;
      s_.source_row[warp_][row] = first ? token : info.h_row + row;
      if (warp_ == kRowsWarp) {
        s_.y_row[slot][row] = token * p_.y_rows + (shared ? p_.top_k : entry - token * p_.top_k);
      }
    }
    __syncwarp();
  }

  // The task's tokens: rows of x for the first GEMM, of h for the second.
  __device__ void load(const TaskInfo& info) {
    const bool shared = info.task.slot < 0;
    const bool first = info.task.kind == TaskKind::kFirst;
    if constexpr (T::kFew) {
      if (!first) {
        WordLoader<T>(p_, s_, run_, warp_, lane_).load(info, tokens_, next_);
        stamp(trace_, TracePhase::kDone, info.task);
        return;
      }
    }
    if (first) {
      if (T::kFp8 && !quantised_) {
        wait(&run_.set->quantised, static_cast<std::uint32_t>(run_.launch.quantise_tiles),
             "x in e4m3");
        quantised_ = true;
      }
    } else {
      wait(info.ready, info.ready_count, "h");
    }
    const int width = first ? p_.hidden : shared ? p_.shared_intermediate : p_.intermediate;
    const std::byte* from = first ? (T::kFp8 ? p_.x_quantised : static_cast<const std::byte*>(p_.x))
                            : shared ? p_.h_shared
                                     : p_.h;
    const float* scales = first ? p_.x_scales : shared ? p_.h_shared_scales : p_.h_scales;
    const std::int64_t stride = first && !T::kFp8 ? 2 * p_.x_stride : T::kElementBytes * width;
    const int groups = width / 128;
    stamp(trace_, TracePhase::kWaited, info.task);
    const int chunk = lane_ % 8;
    from += chunk * 16;
    for (int first = 0; first < info.blocks; first += T::kBlocks) {
      if (next_ == warp_) {
        const int stage = tokens_.stage;
        mbarrier_wait(s_.tokens_empty[stage], tokens_.phase ^ 1, "a free token stage");
#pragma unroll
        for (int b = 0; b < T::kBlocks; ++b) {
          const int block = first + b;
          if (block == info.blocks) break;
          // Rows r and r + 4 of a lane differ in bit 2 of their swizzle.
          std::uint32_t to =
              shared_address(s_.tokens[stage]) + b * T::kTokenBlockBytes + lane_ / 8 * kBlockBytes;
          const std::uint32_t even = (chunk ^ (lane_ / 8)) * 16;
          const std::uint32_t odd = even ^ 64;
          const std::byte* source = from + block * kBlockBytes;
#pragma unroll 2
          for (int row = lane_ / 8; row < info.rows; row += 8) {
            copy_16(to + even, source + s_.source_row[warp_][row] * stride);
            if (row + 4 < info.rows) {
              copy_16(to + 4 * kBlockBytes + odd, source + s_.source_row[warp_][row + 4] * stride);
            }
            to += 8 * kBlockBytes;
          }
          if constexpr (T::kFp8) {
            for (int row = lane_; row < info.rows; row += 32) {
              copy_4(shared_address(s_.token_scales[stage] + b * T::kNMax + row),
                     scales + std::int64_t{1} * s_.source_row[warp_][row] * groups + block);
            }
          }
        }
        mbarrier_arrive_after_copies(s_.tokens_full[stage]);
      }
      next_ = next_ == kLoaderWarps - 1 ? 0 : next_ + 1;
      tokens_.advance();
    }
    __syncwarp();
    stamp(trace_, TracePhase::kDone, info.task);
  }

  __device__ void wait(const std::uint32_t* count, std::uint32_t target, const char* what) {
    if (lane_ == 0) wait_for_count(count, target, what);
    __syncwarp();
  }

  const Params& p_;
  SharedState<T>& s_;
  const Run& run_;
  int lane_;
  int warp_;
  int next_ = 0;  // the warp whose turn the next stage is
  bool listed_ = false;
  bool quantised_ = false;  // x is
  Cursor<T::kTokenStages> tokens_;
  struct Nothing {
    __device__ explicit Nothing(SharedState<T>& /*s*/) {}
  };
  std::conditional_t<T::kImages, ImageLoader<T>, Nothing> images_;
  Tracer trace_;
};

}  // namespace moeopt::cuda::moe
