// The consumers' ends of the rings that hold operands: one of weights and one of tokens, a stage of
// each at a time, or one of both (Tile::kOneRing). Owned here: when a stage may be multiplied and
// when it is given back. Invariant: each consumer warp passes every stage, in order, and arrives
// once on it.
#pragma once

#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

template <int kStages>
__device__ int stage_before(const Cursor<kStages>& place) {
  return place.stage == 0 ? kStages - 1 : place.stage - 1;
}

template <typename T>
class Ring {
 public:
  __device__ explicit Ring(SharedState<T>& s) : s_(s) { static_assert(T::kOneRing); }

  // Until the next stage is there, for wgmma to read: who wrote by threads has fenced.
  __device__ void wait() {
    mbarrier_wait(s_.full[place_.stage], place_.phase, "weights and tokens");
  }
  __device__ void advance() { place_.advance(); }
  __device__ int stage() const { return place_.stage; }
  __device__ std::byte* weights() const { return s_.weights[place_.stage]; }
  __device__ std::byte* tokens() const { return s_.tokens[place_.stage]; }
  __device__ float* token_scales() const { return s_.token_scales[place_.stage]; }

  // The whole warp is done with the stage, or with the one before it.
  __device__ void free() { arrive_for_warp(s_.empty[place_.stage]); }
  __device__ void free_previous() { arrive_for_warp(s_.empty[stage_before(place_)]); }

 private:
  SharedState<T>& s_;
  Cursor<T::kWeightStages> place_;
};

template <typename T>
class Rings {
 public:
  __device__ explicit Rings(SharedState<T>& s) : s_(s) { static_assert(!T::kOneRing); }

  // Until the next stage of both is there; `read`: by this warp's wgmma.
  __device__ void wait(bool read) {
    mbarrier_wait(s_.full[weights_.stage], weights_.phase, "weights");
    mbarrier_wait(s_.tokens_full[tokens_.stage], tokens_.phase, "tokens");
    if (read) fence_async_shared();  // threads wrote the tokens
  }
  __device__ void advance() {
    weights_.advance();
    tokens_.advance();
  }
  __device__ std::byte* weights() const { return s_.weights[weights_.stage]; }
  __device__ std::byte* tokens() const { return s_.tokens[tokens_.stage]; }
  __device__ float* token_scales() const { return s_.token_scales[tokens_.stage]; }

  // The whole warp is done with the stage before this one.
  __device__ void free_previous() {
    __syncwarp();
    if (threadIdx.x % 32 < kArrivingLanes) {
      mbarrier_arrive(s_.empty[stage_before(weights_)]);
      mbarrier_arrive(s_.tokens_empty[stage_before(tokens_)]);
    }
  }

 private:
  SharedState<T>& s_;
  Cursor<T::kWeightStages> weights_;
  Cursor<T::kTokenStages> tokens_;
};

}  // namespace moeopt::cuda::moe
