#include "base/cpu_features.h"
#include "cpu/ops_under_test.h"

namespace moeopt::cpu {

std::vector<OpsUnderTest> ops_under_test() {
  std::vector<OpsUnderTest> all;
  all.push_back({"reference", [] { return make_reference_ops(Precision::kFloat); }, false, 2e-6});
  all.push_back({"stored", [] { return make_reference_ops(Precision::kStored); }, true, 2e-6});
  for (const Isa isa : supported_isas()) {
    const std::string name(isa_name(isa));
    all.push_back({"fast_" + name, [name] { return make_fast_ops(2, name); }, true, 5e-6});
  }
  return all;
}

}  // namespace moeopt::cpu
