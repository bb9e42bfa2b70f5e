// A MemoryPlan for a reader: aligned text or JSON, from the same object.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "plan/memory_plan.h"

namespace moeopt {

// Several lines, each ended by a newline; no wider than 100 columns for ordinary names.
std::string plan_text(const MemoryPlan& plan, const ModelSpec& spec, std::string_view model_name);

nlohmann::json plan_json(const MemoryPlan& plan, const ModelSpec& spec,
                         std::string_view model_name);

// The states alone: for `run`'s final report and /health.
std::string optimisations_text(const std::vector<OptimisationState>& states);
nlohmann::json optimisations_json(const std::vector<OptimisationState>& states);

}  // namespace moeopt
