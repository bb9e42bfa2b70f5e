// One whole case: a layer, its weights and a batch, run and held against the contract.
#pragma once

#include "gpu/judge_launch.h"

namespace moeopt::gpu_test {

struct CasePlan {
  moeopt_moe_desc desc{};
  ExpertsPlan experts;
  BatchPlan batch;
  std::uint64_t seed = 0;
};

// Three launches on one workspace: other tokens (so that whatever it leaves behind is wrong for the
// next), the case as planned, the same again with every optional output. The second and third must
// agree bit for bit; the third is judged. `experts`: packed before, for the same shapes; null: made
// here.
void run_case(Case& c, Arena& arena, const CasePlan& plan, Experts* experts = nullptr);

}  // namespace moeopt::gpu_test
