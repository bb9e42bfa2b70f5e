// The token loaders of the tiles with images (Tile::kImages): unit 0 of a first GEMM gathers rows
// of x, 16 bytes at a time, from addresses that a lane keeps in registers for the whole task; the
// publisher leaves them in stage images (layout.h), from which the other units have them by bulk
// copies, as the second GEMM has h and the combination y. Used by Loader alone. Invariant: a stage
// is full when all lanes of both warps have arrived, what they wrote fenced; where one lane asks
// for copies it arrives for all, and the warps meet at the task's end, so that the other warp's
// place in the ring is never more than a task behind.
#pragma once

#include "cuda/moe/combine.cuh"
#include "cuda/moe/route.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// Rows of y for a combination: a token's, as many columns at a time as fit, into the ring's weight
// stages, by warp 0. Returns the place behind. (Inlined, the gathering loop would spill.)
template <typename T>
__device__ __noinline__ Cursor<T::kTokenStages> stage_y(SharedState<T>& s, const Task& task,
                                                        Cursor<T::kTokenStages> ring) {
  const Params& p = s.params;
  const Run& run = s.run;
  const int warp = static_cast<int>(threadIdx.x) / 32 - 1;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first = task.tile * run.launch.combine_tokens;
  const int end = min(first + run.launch.combine_tokens, run.launch.tokens);
  if (warp == 0 && first + lane < end) {
    wait_for_count(run.y_arrived + first + lane, y_arrivals(p, run, p.expected[first + lane]), "y");
  }
  __syncwarp();
  fence_async_global();  // others stored it, the copy engine reads it
  const int width = staged_columns<T>(p);
#pragma unroll 1
  for (int token = first; token < end; ++token) {
    const std::byte* y = static_cast<const std::byte*>(p.y) +
                         (std::int64_t{1} * token * p.y_rows + lane) * p.hidden * 2;
#pragma unroll 1
    for (int column = 0; column < p.hidden; column += width) {
      if (warp == 0) {
        Mbarrier& full = s.full[ring.stage];
        const auto bytes = static_cast<std::uint32_t>(2 * min(width, p.hidden - column));
        if (lane == 0) {
          mbarrier_wait(s.empty[ring.stage], ring.phase ^ 1, "a free stage (y)");
          mbarrier_arrive(full, T::kLoaderLanes);  // with the next line, the producer's, too
          mbarrier_arrive_expect(full, bytes * p.y_rows);
          mbarrier_arrive(s.empty[ring.stage]);
        }
        __syncwarp();
        if (lane < p.y_rows) {
          bulk_copy(s.weights[ring.stage] + lane * bytes, y + column * 2, bytes, full);
        }
      }
      ring.advance();
    }
  }
  __syncwarp();
  return ring;
}

template <typename T>
class ImageLoader {
 public:
  __device__ explicit ImageLoader(SharedState<T>& s)
      : p_(s.params),
        s_(s),
        run_(s.run),
        lane_(static_cast<int>(threadIdx.x) % 32),
        warp_(static_cast<int>(threadIdx.x) / 32 - 1) {}

  // Where each row of a second GEMM's task has its y: found by the warp that asks for no copies.
  __device__ void find_rows(const TaskInfo& info, int slot) {
    if (info.task.kind == TaskKind::kFirst || warp_ == 0) return;
    const bool shared = info.task.slot < 0;
#pragma unroll 1
    for (int row = lane_; row < info.rows; row += 32) {
      const int entry = entry_of_row(info, row);
      const int token = entry / p_.top_k;
      s_.y_row[slot][row] = token * p_.y_rows + (shared ? p_.top_k : entry - token * p_.top_k);
    }
    __syncwarp();
  }

  __device__ void load_y(const TaskInfo& info, Tracer& trace) {
    ring_ = stage_y(s_, info.task, ring_);
    named_barrier(kLoaderBarrier, 32 * kLoaderWarps);
    stamp(trace, TracePhase::kDone, info.task);
  }

  __device__ void load(const TaskInfo& info, Tracer& trace) {
    const bool shared = info.task.slot < 0;
    if (info.gathered) {
      gather(info, trace);
    } else if (info.task.kind == TaskKind::kFirst) {
      load_images(info, kGathered, p_.x_images, p_.x_image_scales, p_.hidden, trace);
    } else if (shared) {
      load_images(info, info.ready_count, p_.h_shared, p_.h_shared_scales, p_.shared_intermediate,
                  trace);
    } else {
      load_images(info, info.ready_count, p_.h, p_.h_scales, p_.intermediate, trace);
    }
    stamp(trace, TracePhase::kDone, info.task);
  }

 private:
  static constexpr int kRowsOfLane = T::kNMax / 32;
  static constexpr int kPieces = T::kNMax / 8;  // of a stage, for each lane
  static constexpr int kOnTheirWay = 2;         // stages that are not waited for
  // A stage is given back when the next one is there.
  static_assert(kOnTheirWay + 2 <= T::kTokenStages);

  // One lane of both warps. It arrives on a stage's `empty` where the publisher does not keep it.
  __device__ bool leads() const {
    return warp_ == 0 && lane_ == 0;
  }

  __device__ void wait(const std::uint32_t* count, std::uint32_t target, const char* what) {
    if (lane_ == 0) wait_for_count(count, target, what);
    __syncwarp();
  }

  // token * k + slot.
  __device__ int entry_of_row(const TaskInfo& info, int row) const {
    if (info.task.slot < 0) return (info.first_row + row) * p_.top_k;
    return __ldcg(p_.lists + std::int64_t{1} * info.expert * p_.max_tokens + info.first_row + row);
  }

  __device__ void gather(const TaskInfo& info, Tracer& trace) {
    int token[kRowsOfLane];  // of rows lane + 32 i; rows beyond the last repeat it
#pragma unroll
    for (int i = 0; i < kRowsOfLane; ++i) {
      token[i] = entry_of_row(info, min(lane_ + 32 * i, info.rows - 1));
    }
#pragma unroll
    for (int i = 0; i < kRowsOfLane; ++i) token[i] /= p_.top_k;
    std::uint32_t chunks[kPieces];  // of 16 bytes, from the start of x to this lane's rows
    const auto row_chunks = static_cast<std::uint32_t>(T::kFp8 ? p_.hidden / 16 : p_.x_stride / 8);
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      // Row 8 j + 4 warp + lane / 8 is with lane row % 32.
      const int row = 8 * j + 4 * warp_ + lane_ / 8;
      chunks[j] =
          row_chunks * static_cast<std::uint32_t>(__shfl_sync(kAllLanes, token[j / 4], row % 32));
    }
    std::int32_t scale_row[kRowsOfLane / 2];
#pragma unroll
    for (int i = 0; i < kRowsOfLane / 2; ++i) {
      scale_row[i] = warp_ == 0 ? token[i] : token[kRowsOfLane / 2 + i];
    }
    if (T::kFp8 && !quantised_) {
      wait(&run_.set->quantised, static_cast<std::uint32_t>(run_.launch.quantise_tiles),
           "x in e4m3");
      quantised_ = true;
    }
    stamp(trace, TracePhase::kWaited, info.task);
    const int sub = 4 * warp_ + lane_ / 8;  // this lane's rows: 8 j + sub
    const int chunk = lane_ % 8;
    const std::uint32_t at = sub * kBlockBytes + (chunk ^ sub) * 16;
    const std::byte* from =
        (T::kFp8 ? p_.x_quantised : static_cast<const std::byte*>(p_.x)) + chunk * 16;
    const int rows = info.rows;
    const int groups = p_.hidden / 128;
#pragma unroll 1
    for (int block = 0; block < info.blocks; ++block) {
      const int stage = ring_.stage;
      mbarrier_wait(s_.empty[stage], ring_.phase ^ 1, "a free stage (tokens)");
      const std::uint32_t to = shared_address(s_.tokens[stage]) + at;
#pragma unroll
      for (int j = 0; j < kPieces; ++j) {
        if (8 * j >= rows) break;
        copy_16(to + j * 8 * kBlockBytes, from + std::uint64_t{16} * chunks[j]);
      }
      if constexpr (T::kFp8) {
#pragma unroll
        for (int i = 0; i < kRowsOfLane / 2; ++i) {
          const int row = warp_ * (T::kNMax / 2) + 32 * i + lane_;
          copy_4(shared_address(s_.token_scales[stage] + row),
                 p_.x_scales + std::int64_t{1} * scale_row[i] * groups + block);
        }
      }
      copies_commit();
      if (!info.kept && leads()) mbarrier_arrive(s_.empty[stage]);
      from += kBlockBytes;
      ring_.advance();
      if (block >= kOnTheirWay) {
        copies_wait<kOnTheirWay>();
        arrive_on_full(kOnTheirWay + 1);
      }
    }
    copies_wait<0>();
#pragma unroll 1
    for (int back = min(info.blocks, kOnTheirWay); back > 0; --back) arrive_on_full(back);
  }

  // This lane's copies of the stage that many stages ago are there.
  __device__ void arrive_on_full(int back) {
    fence_async_shared();  // wgmma and the copy engine read them
    const int stage = ring_.stage - back;
    mbarrier_arrive(s_.full[stage < 0 ? stage + T::kTokenStages : stage]);
  }

  // Images of `width` columns, complete once the tile's count has reached `ready`.
  __device__ void load_images(const TaskInfo& info, std::uint32_t ready, const std::byte* images,
                              const float* scales, int width, Tracer& trace) {
    if (leads()) {
      wait_for_count(info.ready, ready, info.task.kind == TaskKind::kFirst ? "x in images" : "h");
      fence_async_global();  // others stored them, the copy engine reads them
    }
    stamp(trace, TracePhase::kWaited, info.task);
    const auto rows = static_cast<std::uint32_t>(image_rows(info.rows));
    const std::byte* from = images + std::int64_t{1} * info.h_row * width * T::kElementBytes;
    scales += std::int64_t{1} * info.h_row * (width / 128);
#pragma unroll 1
    for (int block = 0; block < info.blocks; ++block) {
      if (leads()) {
        const int stage = ring_.stage;
        Mbarrier& full = s_.full[stage];
        mbarrier_wait(s_.empty[stage], ring_.phase ^ 1, "a free stage (tokens)");
        const std::uint32_t bytes = rows * kBlockBytes;
        const std::uint32_t scale_bytes = T::kFp8 ? rows * 4 : 0;
        mbarrier_arrive(full, T::kLoaderLanes - 1);
        mbarrier_arrive_expect(full, bytes + scale_bytes);
        mbarrier_arrive(s_.empty[stage]);
        bulk_copy(s_.tokens[stage], from + std::uint64_t{1} * block * bytes, bytes, full);
        if constexpr (T::kFp8) {
          bulk_copy(s_.token_scales[stage], scales + std::uint64_t{1} * block * rows, scale_bytes,
                    full);
        }
      }
      ring_.advance();
    }
    __syncwarp();
    named_barrier(kLoaderBarrier, 32 * kLoaderWarps);
  }

  const Params& p_;
  SharedState<T>& s_;
  const Run& run_;
  int lane_;
  int warp_;
  bool quantised_ = false;  // x is
  Cursor<T::kTokenStages> ring_;
};

}  // namespace moeopt::cuda::moe
