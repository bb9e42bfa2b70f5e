// The consumers' ends of the two rings that hold operands: weights and tokens, a stage of each at a
// time. Owned here: when a stage may be multiplied and when it is given back. Invariant: each
// consumer warp passes every stage of both rings, in order, and arrives once on it.
#pragma once

#include "cuda/moe/shared_state.cuh"

namespace moeopt::cuda::moe {

template <typename T>
class Rings {
 public:
  __device__ explicit Rings(SharedState<T>& s) : s_(s) {}

  // Until the next stage of both is there. `written_by_threads`: cp.async wrote the tokens, not the
  // copy engine.
  __device__ void wait(bool written_by_threads) {
    mbarrier_wait(s_.weights_full[weights_.stage], weights_.phase, "weights");
    mbarrier_wait(s_.tokens_full[tokens_.stage], tokens_.phase, "tokens");
    if (written_by_threads) fence_async_shared();  // wgmma reads what they wrote
  }
  __device__ void advance() {
    weights_.advance();
    tokens_.advance();
  }
  __device__ std::byte* weights() const { return s_.weights[weights_.stage]; }
  __device__ std::byte* tokens() const { return s_.tokens[tokens_.stage]; }
  __device__ float* token_scales() const { return s_.token_scales[tokens_.stage]; }

  // The whole warp is done with the stage, or with the one before it.
  __device__ void free() { free(weights_.stage, tokens_.stage); }
  __device__ void free_previous() {
    free(previous(weights_.stage, T::kWeightStages), previous(tokens_.stage, T::kTokenStages));
  }

 private:
  __device__ void free(int weights, int tokens) {
    __syncwarp();
    if (threadIdx.x % 32 < kArrivingLanes) {
      mbarrier_arrive(s_.weights_empty[weights]);
      mbarrier_arrive(s_.tokens_empty[tokens]);
    }
  }
  static __device__ int previous(int stage, int stages) {
    return stage == 0 ? stages - 1 : stage - 1;
  }

  SharedState<T>& s_;
  Cursor<T::kWeightStages> weights_;
  Cursor<T::kTokenStages> tokens_;
};

}  // namespace moeopt::cuda::moe
