// What the settings ask of one model, before anything is measured against memory.
#pragma once

#include <cstdint>
#include <limits>

#include "model/model_spec.h"
#include "plan/hardware.h"
#include "plan/settings.h"
#include "plan/workspace.h"

namespace moeopt {

struct AskedLimits {
  ExecutionLimits limits;   // kv_blocks is 0: memory decides
  int full_sequences = 1;   // sequences that must fit at max_model_len at the same time
  bool may_shorten = true;  // max_model_len was auto: it may shrink until it fits
  bool may_narrow = true;   // max_num_seqs was auto
  int logit_rows = 0;       // that limits.max_logit_rows must not go below
  std::int64_t most_kv_blocks = std::numeric_limits<int>::max();  // what kv_cache_tokens allow
  DType kv_dtype = DType::kBF16;
};

// Auto becomes: on a CPU 4096 tokens, 8 sequences, 512 tokens a step; on a GPU the model's own
// length, 256 sequences, 8192 tokens a step; all within the model and each other.
// `logit_rows`: as PlanInput's. Error(kUsage) names the settings that contradict the model or each
// other; Error(kUnsupported).
AskedLimits asked_limits(const ModelSpec& spec, const Settings& settings, HardwareKind kind,
                         int logit_rows);

}  // namespace moeopt
