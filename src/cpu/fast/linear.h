// out = W x for many rows, by strips of W.
#pragma once

#include "cpu/fast/strips.h"
#include "cpu/fast/team.h"

namespace moeopt::cpu::fast {

// Bytes that linear() carves for `rows` rows of `inputs`, whatever the weights.
std::size_t linear_scratch_bytes(const Team& team, int rows, int inputs);

// out[r] = W x[r] + bias, bias may be empty; x [rows, w.in()], rounded to bf16 if `round_inputs`.
void linear(const Team& team, const float* x, int rows, const Matrix& w, bool round_inputs,
            std::span<const float> bias, float* out, Carver carver);

}  // namespace moeopt::cpu::fast
