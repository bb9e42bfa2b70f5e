// A checked call, a layer and a workspace's address, as the kernel wants them. Pure arithmetic.
// Invariant: what a workspace pointer reaches lies in [workspace, workspace + layout.bytes), or in
// the control where there is one.
#pragma once

#include "cuda/moe/config.h"
#include "cuda/moe/params.h"
#include "cuda/moe/workspace.h"
#include "moeopt.h"

namespace moeopt::cuda::moe {

// The sizes of a launch, but for the tokens.
Launch make_launch(const Shape& shape, const Config& config, bool ids_given);

// `args` as check_args returned them for this shape.
Params fill_params(const Shape& shape, const Config& config, const WorkspaceLayout& workspace,
                   const moeopt_moe_args& args);

}  // namespace moeopt::cuda::moe
