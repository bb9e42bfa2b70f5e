// What generation_config.json says about sampling: the defaults of `run`, before any flag.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "backend/sampling_params.h"
#include "base/json.h"
#include "model/model_spec.h"

namespace moeopt::cli {

struct GenerationDefaults {
  SamplingParams sampling;
  std::optional<int> max_tokens;
  std::vector<std::int32_t> stop_ids;
};

// `config` may be absent: greedy as Transformers', stop ids from the model's own config.
// Error(kInvalidData) names the field.
GenerationDefaults generation_defaults(const std::optional<Json>& config, const ModelSpec& spec);

}  // namespace moeopt::cli
