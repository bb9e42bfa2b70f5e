// The arithmetic between the two GEMMs and before them. Owned here: the formulas of h and of fp8
// scales. Invariant: the same bits from the same sums, whatever tile they come from.
#pragma once

namespace moeopt::cuda::moe {

__device__ inline float swiglu(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}

// The scale of 128 activations whose largest absolute value is `largest`.
__device__ inline float scale_of(float largest) {
  return fmaxf(largest, 1e-10f) / 448.0f;
}

// value / scale, to the last bit while nothing overflows (inverse: 1 / scale, rounded right).
__device__ inline float quotient(float value, float scale, float inverse) {
  const float near = value * inverse;
  return fmaf(fmaf(-near, scale, value), inverse, near);
}

}  // namespace moeopt::cuda::moe
