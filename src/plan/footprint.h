// Footprint: what a model needs on one rank as a function of the limits, and the largest limits
// that a budget holds. For src/plan alone.
// Invariant: needed_bytes grows with every limit, so the searches bisect.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/hardware.h"
#include "plan/kv_layout.h"
#include "plan/limits.h"
#include "plan/memory_plan.h"
#include "plan/weight_plan.h"

namespace moeopt {

class Footprint {
 public:
  // `ranks` divide the model. Everything referred to outlives the footprint.
  Footprint(const ModelSpec& spec, const WeightPlan& weights, const Hardware& hardware, int ranks,
            DType kv_dtype, const ScratchFormula& scratch);

  int ranks() const { return ranks_; }
  KvLayout kv_layout(int block_tokens) const;

  std::vector<WorkspaceBuffer> workspace(const ExecutionLimits& limits) const;
  std::vector<WorkspaceBuffer> communication(const ExecutionLimits& limits) const;

  // All but the KV blocks.
  RankPlan fixed(const ExecutionLimits& limits) const;
  // One block of every layer.
  std::uint64_t block_bytes(const ExecutionLimits& limits) const;
  // fixed() and blocks for `sequences` of limits.max_model_len.
  std::uint64_t needed_bytes(const ExecutionLimits& limits, std::int64_t sequences) const;
  // Blocks that a budget leaves room for, at most `most`.
  std::int64_t affordable_blocks(const ExecutionLimits& limits, std::uint64_t budget_bytes,
                                 std::int64_t most) const;

  // Largest max_model_len up to `most` with `sequences` at full length; 0: not even one token.
  std::int64_t longest(ExecutionLimits limits, std::int64_t sequences, std::uint64_t budget_bytes,
                       std::int64_t most) const;
  // Largest number of sequences of limits.max_model_len, all in one step; 0: not one.
  std::int64_t widest(ExecutionLimits limits, std::uint64_t budget_bytes, std::int64_t most) const;
  // Largest max_sequences up to `most` with `sequences` of them at full length and logits for at
  // least `logit_rows` rows; 0: none.
  std::int64_t most_slots(ExecutionLimits limits, std::int64_t sequences, int logit_rows,
                          std::uint64_t budget_bytes, std::int64_t most) const;
  // Largest max_step_tokens up to `most` with `sequences` at full length; 0: none.
  std::int64_t largest_step(ExecutionLimits limits, std::int64_t sequences,
                            std::uint64_t budget_bytes, std::int64_t most) const;

 private:
  const ModelSpec* spec_;
  const Hardware* hardware_;
  int ranks_;
  DType kv_dtype_;
  const ScratchFormula* scratch_;
  RankPlan weights_;
};

// The share of a device's memory that the settings give to a plan.
std::uint64_t budget_of(const Hardware& hardware, double share);

}  // namespace moeopt
