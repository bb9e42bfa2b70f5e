// Kernels that stand for the rest of a model between two layers: alone in a graph, a layer finds
// its own code, and the cache, as its last call left them; in a model it does not. Invariant: a
// neighbour writes no memory and changes only what its kind says.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace moeopt::bench {

// Three kernels each, on every multiprocessor.
enum class Neighbour {
  kNone,    // no kernel
  kLaunch,  // empty ones
  kSplit,   // empty ones that ask for all of the first-level cache and no shared memory
  kCode,    // more code than a multiprocessor keeps: 192 KB
  kMemory,  // reads twice what the second-level cache holds
  kModel,   // code, then memory
};

// Throws std::invalid_argument for a name that is none: launch, split, code, memory, model.
Neighbour parse_neighbour(const std::string& name);

inline constexpr int kNeighbourKernels = 3;

// Enqueues the neighbour's kernels.
void launch_neighbour(Neighbour neighbour, cudaStream_t stream);

}  // namespace moeopt::bench
