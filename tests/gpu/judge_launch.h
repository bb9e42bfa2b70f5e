// One launch's results against everything the contract says of them.
#pragma once

#include "gpu/layer_io.h"
#include "gpu/suite.h"

namespace moeopt::gpu_test {

struct Expected {
  std::uint64_t rows = 0;  // (token, expert) pairs that were multiplied
  std::uint64_t nan_tokens = 0;
};

// Holds ids, weights, counts and the output of a launch of the first `tokens` rows of `inputs`
// against the reference; `outputs` has all of them. fp8 is judged in two stages, by the h that the
// launch left in its workspace: it must have been the last one there.
Expected judge_launch(Case& c, Arena& arena, const moeopt_moe_desc& desc, const Experts& experts,
                      const Inputs& inputs, const Outputs& outputs, int tokens,
                      const void* workspace);

// Number of (token, expert) pairs of recorded ids.
std::uint64_t rows_of_ids(const Inputs& inputs, const std::vector<std::int32_t>& ids, int top_k);

}  // namespace moeopt::gpu_test
