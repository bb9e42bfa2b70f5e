// Every implementation of CpuOps on this machine: the op table and the MoE suite run over all.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/ops.h"

namespace moeopt::cpu {

struct OpsUnderTest {
  std::string name;  // for test names: letters and digits
  std::function<std::unique_ptr<CpuOps>()> make;
  bool rounds_inputs;  // follows the stored contract of ops.h: inputs of bf16 and fp8 weights in
                       // bf16
  double tolerance;  // relative Frobenius error against float64 of the same contract, of plain sums
};

std::vector<OpsUnderTest> ops_under_test();

inline std::string name_of(const OpsUnderTest& ops) {
  return ops.name;
}

}  // namespace moeopt::cpu
