// The arithmetic between the two GEMMs and before them. Owned here: the formulas of router scores,
// of h and of fp8 scales. Invariant: the same bits from the same sums, whatever tile they come
// from.
#pragma once

#include "cuda/moe/ptx.cuh"

namespace moeopt::cuda::moe {

__device__ inline float sigmoid_of(float logit) {
  return __fdividef(1.0f, 1.0f + __expf(-logit));
}

__device__ inline float swiglu(float gate, float up) {
  return __fdividef(gate, 1.0f + approximate_exp2(-1.44269504f * gate)) * up;  // log2(e)
}

// Divisions are written out: the compiler's own carry code for operands that cannot occur here, and
// a launch fetches its code from memory.

// value / scale, to the last bit while nothing overflows (inverse: 1 / scale, rounded right).
__device__ inline float quotient(float value, float scale, float inverse) {
  const float near = value * inverse;
  return fmaf(fmaf(-near, scale, value), inverse, near);
}

// The scale of 128 activations whose largest absolute value is `largest`: largest / 448, to the
// last bit; finite when `largest` is.
__device__ inline float scale_of(float largest) {
  constexpr float kLargest = 448.0f;  // of e4m3
  return quotient(fmaxf(largest, 1e-10f), kLargest, 1.0f / kLargest);
}

// 1 / value, to the last bit where both are normal numbers: the approximation and one step of
// Newton's.
__device__ inline float inverse_of(float value) {
  const float near = approximate_reciprocal(value);
  return fmaf(near, fmaf(-value, near, 1.0f), near);
}

}  // namespace moeopt::cuda::moe
