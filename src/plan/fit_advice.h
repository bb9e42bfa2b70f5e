// FitAdvice: the error of a model that does not fit, with what would. For src/plan alone.
// Invariant: every suggestion has been computed with the same footprint as the plan.
#pragma once

#include "base/error.h"
#include "plan/footprint.h"
#include "plan/memory_plan.h"

namespace moeopt {

// `ranks` divide the model and asked.limits with asked.full_sequences at full length do not fit.
Error does_not_fit(const PlanInput& input, const WeightPlan& weights, const AskedLimits& asked,
                   int ranks);

}  // namespace moeopt
