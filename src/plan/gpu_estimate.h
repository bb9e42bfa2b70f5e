// What a step would need on a GPU. No backend of this version runs there, so these are estimates
// and every plan that uses them says so.
#pragma once

#include <vector>

#include "model/model_spec.h"
#include "plan/workspace.h"

namespace moeopt {

// bf16 activations, one gathered row a (token, expert) slot.
std::vector<WorkspaceBuffer> gpu_workspace(const ModelSpec& spec, const ExecutionLimits& limits);

// Of one rank among several: two sets each of dispatch and combine (every token of the step at most
// once), the attention's partial sums, and routes.
std::vector<WorkspaceBuffer> gpu_communication(const ModelSpec& spec,
                                               const ExecutionLimits& limits);

}  // namespace moeopt
