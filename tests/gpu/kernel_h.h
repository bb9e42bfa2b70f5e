// The kernel's own h, read from its workspace after a launch: what the second stage of the fp8
// judgement feeds the reference with. The only file of the suite that knows the workspace's layout.
// Invariant: nothing is taken on trust: every row of the kernel's lists is held against the
// routing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpu/device.h"
#include "gpu/fill.h"
#include "gpu/reference.h"
#include "moeopt.h"

namespace moeopt::gpu_test {

struct KernelH {
  const Fp8Bits* h = nullptr;  // [rows of work, I]
  const float* scale = nullptr;
  const Fp8Bits* shared_h = nullptr;  // [tokens, shared I]
  const float* shared_scale = nullptr;
  std::vector<std::int32_t> row_of_place;  // token * k + slot to row of h, -1: none
  std::optional<std::string> fault;        // the lists are not what the routing says
};

// After an fp8 launch of `assignment` on this workspace, before the next one.
KernelH find_kernel_h(Arena& arena, const moeopt_moe_desc& desc, const void* workspace,
                      const Assignment& assignment);

}  // namespace moeopt::gpu_test
