// Warp 3: makes what the consumers stored visible to other blocks. Owned here: the release of h and
// of y, off the consumers' path, because a release waits for the memory system. Invariant: a count
// moves only after everything that it counts is stored: consumers arrive on task_stored behind
// their stores, and the release here is cumulative.
#pragma once

#include "cuda/moe/route.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class Publisher {
 public:
  __device__ Publisher(const Params& p, SharedState<T>& s)
      : p_(p), s_(s), run_(s.run), lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void work() {
    Cursor<kTaskSlots> tasks;
    for (;;) {
      const int slot = tasks.stage;
      mbarrier_wait(s_.task_full[slot], tasks.phase, "a task (publisher)");
      const TaskInfo& info = s_.tasks[slot];
      const TaskKind kind = info.task.kind;
      if (kind == TaskKind::kEnd) return;
      mbarrier_wait(s_.task_stored[slot], tasks.phase, "stored results");
      if (kind == TaskKind::kFirst && lane_ == 0) publish_h(info);
      if (kind == TaskKind::kSecond) publish_y(info, s_.y_row[slot]);
      arrive_for_warp(s_.task_empty[slot]);
      tasks.advance();
    }
  }

 private:
  __device__ void publish_h(const TaskInfo& info) {
    add_release(info.ready, T::kImages && info.task.unit == 0 ? kGathered + 1 : 1);
    if (info.task.slot >= 0 && info.task.unit == 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&p_.counters->rows),
                static_cast<unsigned long long>(info.rows));
    }
  }

  // y_row: written by a loader, read by the consumers before they stored.
  __device__ void publish_y(const TaskInfo& info, const std::int32_t* y_row) {
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
