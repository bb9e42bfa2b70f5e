// Scheduler: decides what one step computes. Decode first, then prefill in chunks: half of the room
// for the oldest prompt, so that it always gets on, the rest for those with the least left, so that
// a short prompt never waits for a long one.
// Invariant: it changes nothing but the plan and the launch marks of the sequences it put there.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/step_plan.h"
#include "engine/sequence.h"
#include "engine/step_budget.h"

namespace moeopt {

struct ScheduledStep {
  struct Part {
    Sequence* sequence;
    int first_position;
    int n_tokens;
  };
  struct ScoredRow {  // a row whose logits score the prompt's token `position + 1`
    Sequence* sequence;
    int position;
  };
  std::vector<Part> parts;         // in the order of the plan's sequences
  std::vector<Sequence*> sampled;  // in the order of the plan's samples
  std::vector<ScoredRow> scored;   // in the order of the plan's wanted logits
  int n_tokens = 0;
  int n_prefill_chunks = 0;  // prefill runs that did not hold all that was left
  StepMeasurement work;      // its time is not known yet

  void clear();
};

struct SchedulerLimits {
  int max_tokens = 0;      // of a step
  int max_logit_rows = 0;  // of a step; at least one a sequence
  bool chunked_prefill = true;
};

bool wants_decode(const Sequence& sequence);

// Fills `plan` (cleared first) from the running sequences, which are ordered by age and have blocks
// for what may be launched. `budget` bounds the prefill share of a step that a stream (a sequence
// past its prefill) waits for. Without chunked prefill a prompt goes in one step, alone if need be.
void schedule_step(std::span<const std::unique_ptr<Sequence>> running,
                   const SchedulerLimits& limits, const StepBudget& budget, StepPlan& plan,
                   ScheduledStep& step);

}  // namespace moeopt
