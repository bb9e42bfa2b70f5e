// The short report after an answer: what the model is, what was planned, what is applied, and which
// experts worked. Everything in it was counted or planned, nothing is said from hope.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/model_spec.h"
#include "plan/memory_plan.h"
#include "plan/optimisations.h"
#include "routing/expert_counts.h"

namespace moeopt::cli {

struct RunReport {
  std::string_view model_name;
  const ModelSpec* spec;
  const MemoryPlan* plan;
  std::string backend_name;
  std::vector<OptimisationState> optimisations;
  const ExpertCounts* experts;
};

std::string report_text(const RunReport& report);

// One line a layer: a bar of eighths for each expert's share, the busiest experts, the imbalance.
std::string experts_text(const ExpertCounts& counts);

}  // namespace moeopt::cli
