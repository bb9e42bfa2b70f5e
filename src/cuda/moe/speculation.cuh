// Weights asked for before the routing is known: between the gate and the lists the memory has
// little to do. Owned here: the guess which task will be a block's first, and the stages of the
// weight ring that it fills. Invariant: nothing has used the ring yet; a stage is given to a task,
// filled again or left behind only after what was asked for into it has landed.
#pragma once

#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

// `bytes` of each packed tile of a stage; `once`: no other task of this launch reads them.
template <typename T>
__device__ void copy_stage(std::byte* to, const std::byte* from, std::uint64_t tile_bytes,
                           int tiles, std::uint32_t bytes, bool once, Mbarrier& full) {
  const auto copy = [&](std::byte* tile_to, const std::byte* tile_from) {
    if (once) {
      bulk_copy_once(tile_to, tile_from, bytes, full, evict_first_policy());
    } else {
      bulk_copy(tile_to, tile_from, bytes, full);
    }
  };
  copy(to, from);
  if (T::kMTiles > 1 && tiles > 1) copy(to + kStageBytes, from + tile_bytes);
}

// Of lane 0 of the producer.
template <typename T>
class Speculation {
 public:
  __device__ Speculation(const Params& p, SharedState<T>& s) : p_(p), s_(s) {}

  // Until known(s), asks for the first weights of the task that routed ticket `rank` is when each
  // expert has one tile of tokens.
  template <typename Known>
  __device__ void ask(int rank, Known known) {
    rank_ = rank;
    asked_ = ask_until(p_, s_, rank, known);
  }
  // How many stages of the ring, from its first on, hold the beginning of `task`'s weights, all of
  // them landed: 0 where the guess was another.
  __device__ int stages_of(const Task& task) {
    if (asked_ == 0) return 0;
    settle();
    const int stages = asked_;
    asked_ = 0;
    const bool right = task.kind == TaskKind::kFirst && task.tile == 0 &&
                       task.slot * s_.run.launch.units1 + task.unit == rank_;
    return right ? stages : 0;
  }
  // Until nothing is on its way any more.
  __device__ void settle() {
    if (asked_ > 0) mbarrier_wait(s_.speculated, (asked_ - 1) & 1, "speculated weights");
  }

 private:
  static constexpr int kAhead = 8;    // stages in the cache, beyond the ring
  static constexpr int kPace = 1100;  // cycles a stage: somewhat faster than the memory brings it

  // One stage at a time, about what keeps the memory busy: 26 MB at once would be 4 us that the
  // loads of the routing queue for. Not inlined, to keep its code out of the producer's own.
  template <typename Known>
  static __device__ __noinline__ int ask_until(const Params& p, SharedState<T>& s, int rank,
                                               Known known) {
    const int units = s.run.launch.units1;
    const int slot = rank / units;
    if (slot >= p.slots) return 0;
    const ExpertLayout& layout = p.layout;
    const int tile = rank % units * T::kMTiles;
    const bool two = T::kMTiles > 1 && tile + 1 < layout.tiles1();
    const auto bytes = static_cast<std::uint32_t>(kStageBytes * T::kBlocks);
    const std::uint64_t tile_bytes = std::uint64_t{kStageBytes} * layout.blocks1();
    const std::byte* from =
        p.experts + static_cast<std::uint64_t>(slot) * p.expert_stride + layout.stage1(tile, 0);
    if constexpr (T::kFp8) {
      bulk_prefetch(
          p.experts + static_cast<std::uint64_t>(slot) * p.expert_stride + layout.scales1(tile),
          static_cast<std::uint32_t>(layout.scale1_stride() * (two ? 2 : 1)));
    }
    const int stages = ceil_div(layout.blocks1(), T::kBlocks);
    const int most = min(T::kWeightStages, stages - 1);  // the last one may be half a one
    int asked = 0;
#pragma unroll 1
    while (asked < most && !known(s)) {
      if (asked > 0 && !mbarrier_test(s.speculated, (asked - 1) & 1)) continue;
      mbarrier_arrive_expect(s.speculated, two ? 2 * bytes : bytes);
      copy_stage<T>(s.weights[asked], from, tile_bytes, two ? 2 : 1, bytes, true, s.speculated);
      from += bytes;
      ++asked;
    }
    // The ring is full. On into the cache; not where tokens are routed through the workspace, which
    // then takes longer than the weights gain.
    const int end = p.local_lists ? min(most + kAhead, stages) : 0;
    long long next = clock64();
#pragma unroll 1
    for (int stage = asked; stage < end && !known(s);) {
      if (clock64() < next) continue;
      next += kPace;
      const int left = (layout.blocks1() - stage * T::kBlocks) * kStageBytes;
      const std::uint32_t some = min(bytes, static_cast<std::uint32_t>(left));
      bulk_prefetch(from, some);
      if (two) bulk_prefetch(from + tile_bytes, some);
      from += bytes;
      ++stage;
    }
    return asked;
  }

  const Params& p_;
  SharedState<T>& s_;
  int rank_ = 0;
  int asked_ = 0;  // stages
};

}  // namespace moeopt::cuda::moe
