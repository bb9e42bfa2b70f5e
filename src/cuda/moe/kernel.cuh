// FlashDMoE: one launch runs a whole Mixture-of-Experts layer. Read from here: this file starts a
// block and gives each warp its role; producer.cuh (tickets, schedule, weights), loader.cuh and
// word_loader.cuh (tokens), consumer.cuh (GEMMs, epilogues), publisher.cuh, combine.cuh and
// combine_few.cuh, gate.cuh, route.cuh and dispatch.cuh (router, top-k, lists), quantise.cuh;
// schedule.h is the order of the work, workspace.h the memory between blocks. docs/flashdmoe.md
// explains the whole. Invariant: no block ever waits for a block that has not started: work is
// handed out by ordered tickets and waits only for lower ones.
#pragma once

#include "cuda/moe/consumer.cuh"
#include "cuda/moe/loader.cuh"
#include "cuda/moe/producer.cuh"
#include "cuda/moe/publisher.cuh"

namespace moeopt::cuda::moe {

template <typename T>
__device__ void init_barriers(const Params& p, SharedState<T>& s) {
  for (int i = 0; i < T::kWeightStages; ++i) {
    mbarrier_init(s.full[i], 1 + (T::kOneRing ? T::kLoaderLanes : 0));
    mbarrier_init(s.empty[i], kConsumerWarps * kArrivingLanes + (T::kOneRing ? 1 : 0));
  }
  for (int i = 0; i < T::kTokenBarriers; ++i) {
    mbarrier_init(s.tokens_full[i], T::kLoaderLanes);
    mbarrier_init(s.tokens_empty[i], kConsumerWarps * kArrivingLanes);
  }
  mbarrier_init(s.speculated, 1);
  for (int i = 0; i < T::kTaskSlots; ++i) {
    mbarrier_init(s.task_full[i], 1);
    mbarrier_init(s.task_scales[i], 1);
    mbarrier_init(s.task_rows[i], 32);
    mbarrier_init(s.task_stored[i], kConsumerWarps * kArrivingLanes);
    mbarrier_init(s.task_empty[i], (kLoaderWarps + 1) * kArrivingLanes);
  }
  mbarrier_init(s.counted, publisher_routes<T>(p) ? 32 : kConsumers);
  mbarrier_init(s.planned, 32);
  mbarrier_init(s.listed, kConsumers);
  fence_mbarrier_init();
}

// Number of tokens of this launch; a device-side count beyond the capacity makes it an empty
// launch.
__device__ inline int launch_tokens(const Params& p) {
  if (p.tokens_device == nullptr) return p.tokens;
  const int tokens = *p.tokens_device;
  return tokens >= 0 && tokens <= p.max_tokens ? tokens : -1;
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 1) flash_dmoe(const __grid_constant__ Params p) {
  // NOTE: swizzled tiles need 1024-byte alignment. Rounding the address up by hand would hide from
  // the compiler that this is shared memory.
  extern __shared__ __align__(1024) std::byte dynamic[];
  auto& s = *reinterpret_cast<SharedState<T>*>(dynamic);
  if (shared_address(dynamic) % 1024 != 0) __trap();

  static_assert(sizeof(Params) % 4 == 0 && sizeof(Params) / 4 <= kConsumers);
  if (threadIdx.x >= 128) {
    const unsigned word = threadIdx.x - 128;
    if (word < sizeof(Params) / 4) {
      reinterpret_cast<std::uint32_t*>(&s.params)[word] =
          reinterpret_cast<const std::uint32_t*>(&p)[word];
    }
    prefetch_gate(p, static_cast<int>(blockIdx.x * kConsumers + word));
  } else if (threadIdx.x == 32) {
    init_barriers(p, s);
  } else if (threadIdx.x == 0) {
    const std::uint64_t ticket = atomicAdd(p.ticket, 1ull);
    const int tokens = launch_tokens(p);
    make_run(p, s, ticket, max(tokens, 0));
    if (s.run.first) {
      auto* counters = reinterpret_cast<unsigned long long*>(p.counters);
      atomicAdd(counters, 1ull);
      if (tokens < 0) atomicAdd(reinterpret_cast<unsigned long long*>(&p.counters->errors), 1ull);
    }
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < 4) {
    if constexpr (!T::kFew) release_registers<T::kProducerRegisters>();
    if (warp == 0) {
      Producer<T>(p, s).work();
    } else if (warp == kPublisherWarp) {
      Publisher<T>(p, s).work();
    } else {
      Loader<T>(p, s).work();
    }
  } else {
    if constexpr (!T::kFew) claim_registers<T::kConsumerRegisters>();
    Consumer<T>(p, s).work();
  }
}

template <typename T>
constexpr std::size_t shared_bytes() {
  return sizeof(SharedState<T>);
}

}  // namespace moeopt::cuda::moe
