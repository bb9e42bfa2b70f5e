// Batches of SwiGLU blocks: each expert on the rows that were sent to it, all experts at once.
// Invariant: a slot row's result depends on its input row and its expert alone.
#pragma once

#include "cpu/fast/strips.h"
#include "cpu/fast/team.h"

namespace moeopt::cpu::fast {

// One expert's rows: slot rows [first, first + rows) of the batch.
struct ExpertGroup {
  const SwigluWeights* weights = nullptr;
  int first = 0;
  int rows = 0;
  // Set by run_experts: how its rows are packed, and where its tiles and work items start among
  // all groups'.
  Packing in = Packing::kPairs;       // of x
  Packing between = Packing::kPairs;  // of h
  int first_tile = 0;
  int first_gate_item = 0;
  int first_down_item = 0;
};

struct ExpertShape {
  int hidden = 0;
  int widest_intermediate = 0;
  int slot_rows = 0;
  int groups = 0;
};

// Bytes that run_experts() carves, whatever the weights.
std::size_t experts_scratch_bytes(const Team& team, const ExpertShape& shape);

// y[s] = down (silu(gate x) * (up x)) of slot row s's expert, x = slot_inputs[s]; y
// [slot rows, hidden]. Rounds x and h to bf16 if `round_inputs`. The groups cover the slot rows in
// order.
void run_experts(const Team& team, std::span<ExpertGroup> groups, const float* const* slot_inputs,
                 bool round_inputs, float* y, Carver carver);

}  // namespace moeopt::cpu::fast
