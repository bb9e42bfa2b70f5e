// Warps 4 .. 11, two warpgroups: the loop that gives each task to its code. The GEMMs are in
// few_tokens.cuh and many_tokens.cuh, the rest in gate.cuh, dispatch.cuh, quantise.cuh, lists.cuh
// and combine.cuh. Owned here: when a task counts as stored. Invariant: every consumer warp sees
// every task, in ring order, and arrives on task_stored behind its stores.
#pragma once

#include <type_traits>

#include "cuda/moe/combine.cuh"
#include "cuda/moe/combine_few.cuh"
#include "cuda/moe/dispatch.cuh"
#include "cuda/moe/few_tokens.cuh"
#include "cuda/moe/gate.cuh"
#include "cuda/moe/lists.cuh"
#include "cuda/moe/many_tokens.cuh"
#include "cuda/moe/quantise.cuh"
#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class Consumer {
 public:
  __device__ Consumer(const Params& p, SharedState<T>& s)
      : s_(s),
        run_(s.run),
        gemms_(p, s,
               Tracer(threadIdx.x < 256 ? TraceRole::kWarpgroup0 : TraceRole::kWarpgroup1,
                      threadIdx.x % 128 == 0)) {}

  __device__ void work() {
    Cursor<T::kTaskSlots> tasks;
    for (;;) {
      mbarrier_wait(s_.task_full[tasks.stage], tasks.phase, "a task (consumer)");
      const TaskInfo& info = s_.tasks[tasks.stage];
      const TaskKind kind = info.task.kind;
      if (kind == TaskKind::kEnd) {
        gemms_.trace().stamp(TracePhase::kEnd);
        return;
      }
      stamp(gemms_.trace(), TracePhase::kTask, info.task);
      if (kind == TaskKind::kGate) {
        bool wide = false;
        if constexpr (T::kImages) {
          wide = s_.params.gate_rows > kGateRows;
          if (wide) wide_gate_task(s_.params, s_, run_, info.task, thread_again() - 128);
        }
        if (!wide) gate_task(s_.params, s_, run_, info.task, consumer());
      }
      if constexpr (!T::kFew) {
        if (kind == TaskKind::kDispatch) {
          // The schedule is not known before all dispatch tasks are done.
          dispatch_task(s_.params, run_, s_.row_start, info.task, consumer());
        }
      }
      if constexpr (T::kLocalLists) {
        if (kind == TaskKind::kList && !publisher_routes<T>(s_.params)) {
          list_task(s_.params, s_, run_, consumer());
        }
      }
      if (kind == TaskKind::kCombine) {
        if constexpr (T::kImages) {
          gemms_.combine(info, run_);
        } else if constexpr (T::kFew) {
          combine_few(s_.params, s_, run_, info.task, consumer());
        } else {
          combine_task(s_.params, s_, run_, info.task, consumer());
        }
      }
      if constexpr (T::kFp8) {
        if (kind == TaskKind::kQuantise) {
          if (T::kImages && run_.launch.quantise_tokens >= kConsumerWarps) {
            quantise_many(s_.params, run_, info.task, consumer());
          } else {
            quantise_few(s_.params, run_, info.task, consumer());
          }
        }
      }
      if (info.gemm()) gemms_.gemm(info);
      stamp(gemms_.trace(), TracePhase::kFinished, info.task);
      if constexpr (T::kFp8) fence_async_shared();  // the copy engine writes the next task's scales
      tasks.go_to(info.place);
      arrive_for_warp(s_.task_stored[tasks.stage]);
      tasks.advance();
    }
  }

 private:
  static __device__ int consumer() { return static_cast<int>(threadIdx.x) - 128; }

  SharedState<T>& s_;
  const Run& run_;
  std::conditional_t<T::kImages, ManyTokens<T>, FewTokens<T>> gemms_;
};

}  // namespace moeopt::cuda::moe
