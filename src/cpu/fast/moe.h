// The MoE layer: router, experts on their rows, combination in slot order.
#pragma once

#include "cpu/fast/experts.h"
#include "cpu/fast/linear.h"

namespace moeopt::cpu::fast {

// Rows are taken this many at a time, which bounds the scratch memory: 512 rows use every expert of
// today's models, so that more at once would not read fewer weights per row by much.
inline constexpr int kMoeRows = 512;

std::size_t moe_scratch_bytes(const Team& team, const MoeSpec& spec, int hidden, int max_rows);
std::size_t swiglu_scratch_bytes(const Team& team, int hidden, int intermediate, int max_rows);

void moe(const Team& team, const float* x, int rows, const MoeWeights& w, Routing routing,
         float* out, std::span<std::byte> scratch);
void swiglu(const Team& team, const float* x, int rows, const SwigluWeights& w, float* out,
            std::span<std::byte> scratch);

}  // namespace moeopt::cpu::fast
