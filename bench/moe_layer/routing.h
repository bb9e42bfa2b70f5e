// Which experts every token of every call in a graph goes to, and from which copy of the weights.
// Invariant: between two calls that touch one packed expert, the other calls of the graph's cycle
// touch at least `cold_bytes`, so that no cache still holds it. Host arithmetic; no CUDA.
#pragma once

#include <cstdint>
#include <vector>

#include "moe_layer/shapes.h"

namespace moeopt::bench {

enum class RoutingKind {
  kUniform,  // each expert equally often, as evenly as whole numbers allow
  kRandom,   // each token k experts at random
  kZipf      // likewise, the expert of rank r with weight 1 / r
};

struct Call {
  int copy = 0;
  std::vector<int> ids;       // [tokens, k]
  std::vector<int> distinct;  // the experts among them, ascending
};

struct Routing {
  int copies = 0;
  std::vector<Call> calls;
  double mean_distinct = 0;
  std::uint64_t reuse_bytes = 0;  // the least between two uses of an expert
};

Routing plan_routing(RoutingKind kind, const LayerShape& shape, int tokens,
                     std::uint64_t expert_bytes, std::uint64_t shared_bytes,
                     std::uint64_t cold_bytes, std::uint64_t seed);

// The same copies and distinct experts, with the tokens spread over them evenly.
Routing evened(const Routing& routing, const LayerShape& shape, int tokens, std::uint64_t seed);

}  // namespace moeopt::bench
