// Scheduler: decides what one step computes. Decode first, then prefill in chunks, oldest first.
// Invariant: it changes nothing but the plan and the launch marks of the sequences it put there.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/step_plan.h"
#include "engine/sequence.h"

namespace moeopt {

struct ScheduledStep {
  struct Run {
    int first_position, n_tokens;
  };
  std::vector<Sequence*> sequences;  // in the order of the plan's sequences
  std::vector<Run> runs;             // theirs
  std::vector<Sequence*> sampled;    // in the order of the plan's samples
  int n_tokens = 0;
  int n_prefill_chunks = 0;  // prefill runs that did not hold their whole prompt
};

// Fills `plan` (cleared first) from the running sequences within `max_tokens`.
void schedule_step(std::span<const std::unique_ptr<Sequence>> running, int max_tokens,
                   StepPlan& plan, ScheduledStep& step);

}  // namespace moeopt
