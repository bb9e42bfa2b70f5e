// Random cases over everything the library accepts.
#pragma once

#include "gpu/layer_case.h"

namespace moeopt::gpu_test {

// A small or medium layer of any kind.
CasePlan draw_case(std::uint64_t seed);
// The same with 512 to 16384 tokens, in layers that the reference has time for.
CasePlan draw_prefill_case(std::uint64_t seed);

// A tile_tokens that a layer of so many tokens may ask for.
int draw_tile(int max_tokens, Rng& rng);

// A map of `experts` ids to `slots` slots in random order; ids beyond them are -1.
std::vector<std::int32_t> draw_map(int experts, int slots, Rng& rng);

// Weights for a description, packed plainly.
ExpertsPlan plain_experts(const moeopt_moe_desc& desc, std::uint64_t seed);

}  // namespace moeopt::gpu_test
