// What each role of each block did during one launch. Only in moe_layer_trace, whose kernels stamp
// their phases (src/cuda/moe/trace.cuh).
#pragma once

#include <string>

#include "moe_layer/layer.h"
#include "moe_layer/neighbour.h"

namespace moeopt::bench {

// False in moe_layer: its kernels hold no stamps.
bool can_trace();

// Runs every call once, cold, and call 0 once more behind the neighbour, with stamps; writes them
// for ui.perfetto.dev (one process a block, one track a role) and prints when each kind of work
// began and ended.
void trace_call(Calls& calls, Neighbour neighbour, const std::string& path);

}  // namespace moeopt::bench
