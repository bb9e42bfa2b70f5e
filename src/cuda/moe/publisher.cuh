// Warp 3: makes what a task made visible to other blocks, but where that goes as words. Owned here:
// the release of h and of y, off the consumers' path, because a release waits for the memory
// system; with images those of x, which this warp takes from the ring itself. Invariant: a count
// moves only after everything that it counts is stored: consumers arrive on task_stored behind
// their stores, and the release here is cumulative. With few tokens, where it has nothing to
// release, it may route them (publisher_routes).
#pragma once

#include "cuda/moe/lists.cuh"
#include "cuda/moe/route.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class Publisher {
 public:
  __device__ Publisher(const Params& p, SharedState<T>& s)
      : p_(p), s_(s), run_(s.run), lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void work() {
    if (publisher_routes<T>(p_)) {
      for (int half = 0; half < 2; ++half) walk_through_choice(s_.params, half, lane_);
    }
    Cursor<T::kTaskSlots> tasks;
    for (;;) {
      const int slot = tasks.stage;
      mbarrier_wait(s_.task_full[slot], tasks.phase, "a task (publisher)");
      const TaskInfo& info = s_.tasks[slot];
      const TaskKind kind = info.task.kind;
      if (kind == TaskKind::kEnd) return;
      if constexpr (T::kImages) {
        if (info.kept && lane_ == 0) keep_tokens(info);
      }
      if (kind == TaskKind::kList && publisher_routes<T>(p_)) route();
      mbarrier_wait(s_.task_stored[slot], tasks.phase, "stored results");
      if (kind == TaskKind::kFirst && lane_ == 0) publish_h(info);
      if (kind == TaskKind::kSecond) publish_y(info, s_.y_row[slot]);
      arrive_for_warp(s_.task_empty[slot]);
      tasks.advance();
    }
  }

 private:
  // The tokens, for this block.
  __device__ void route() {
    for (int token = 0; token < run_.launch.tokens; ++token) {
      route_token_here(s_.params, s_.local, run_, token, lane_);
    }
    mbarrier_arrive(s_.counted);
  }

  // What the loaders gather, stage by stage, to the images from which the expert's other units
  // read.
  __device__ void keep_tokens(const TaskInfo& info) {
    Cursor<T::kWeightStages> ring;
    ring.go_to(info.ring);
    const auto rows = static_cast<std::uint32_t>(image_rows(info.rows));
    std::int64_t line = std::int64_t{1} * info.h_row * info.blocks;
#pragma unroll 1
    for (int block = 0; block < info.blocks; ++block) {
      mbarrier_wait(s_.full[ring.stage], ring.phase, "gathered tokens");
      bulk_store(p_.x_images + line * kBlockBytes, s_.tokens[ring.stage], rows * kBlockBytes);
      if constexpr (T::kFp8) {
        bulk_store(p_.x_image_scales + line, s_.token_scales[ring.stage], rows * 4);
      }
      bulk_commit();
      bulk_wait_read<0>();
      mbarrier_arrive(s_.empty[ring.stage]);
      line += rows;
      ring.advance();
    }
    bulk_wait();
  }
  __device__ void publish_h(const TaskInfo& info) {
    if (!T::kFew) add_release(info.ready, T::kImages && info.task.unit == 0 ? kGathered + 1 : 1);
    if (info.task.slot >= 0 && info.task.unit == 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&p_.counters->rows),
                static_cast<unsigned long long>(info.rows));
    }
  }

  // y_row: written by a loader, read by the consumers before they stored.
  __device__ void publish_y(const TaskInfo& info, const std::int32_t* y_row) {
    if (T::kFew) return;
    fence_release();
    for (int row = lane_; row < info.rows; row += 32) {
      add_relaxed(run_.y_arrived + y_row[row] / p_.y_rows, 1);
    }
  }

  const Params& p_;
  SharedState<T>& s_;
  const Run& run_;
  int lane_;
};

}  // namespace moeopt::cuda::moe
