// A simulation of one MoE layer's time on several GPUs from a placement, routed tokens and measured
// rates. It is arithmetic, no measurement: whoever prints it says so.
#pragma once

#include <cstdint>
#include <span>

#include "routing/placement.h"

namespace moeopt {

// Rates measured on H200 GPUs of one host with NVLink (docs/routing.md says how); each can be
// replaced.
struct SimulatedMachine {
  double memory_bytes_per_s = 4.6e12;  // reading 300 MB and more of weights in a launch
  double flops = 720e12;               // bf16 products of 4096^3 in cuBLAS
  double link_bytes_per_s = 309e9;     // all-to-all push from 28 blocks, per GPU
  double round_us = 6.7;               // one small message to every peer and back
};

struct SimulatedLayer {
  int hidden = 0;
  int intermediate = 0;
  double weight_bytes = 2;    // a parameter
  double dispatch_bytes = 2;  // an element of a token on its way to an expert; 2 on the way back
};

struct SimulatedTime {
  double expert_us = 0;  // the busiest GPU's: weights of its active experts, or their products
  double link_us = 0;    // dispatch and combine, of the busiest GPU
  double total_us() const { return expert_us + link_us; }
};

// One layer over consecutive batches of `batch` tokens of `tokens` [n][top_k]; the mean of a batch.
// Token i of a batch lives on GPU i % n_gpus; copies of an expert are used in turn.
SimulatedTime simulate_layer(const LayerPlacement& placement, const PlacementShape& shape,
                             std::span<const std::uint16_t> tokens, int top_k, int batch,
                             const SimulatedLayer& layer, const SimulatedMachine& machine);

}  // namespace moeopt
