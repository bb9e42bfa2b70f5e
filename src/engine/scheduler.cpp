#include "engine/scheduler.h"

#include <algorithm>
#include <vector>

namespace moeopt {
namespace {

void add(Sequence& sequence, std::span<const TokenRef> tokens, bool sample, StepPlan& plan,
         ScheduledStep& step) {
  const int first_token =
      plan.add_sequence(sequence.slot, sequence.n_launched, tokens, sequence.blocks);
  const int n_tokens = static_cast<int>(tokens.size());
  step.sequences.push_back(&sequence);
  step.runs.push_back({sequence.n_launched, n_tokens});
  step.n_tokens += n_tokens;
  sequence.n_launched += n_tokens;
  sequence.in_flight += 1;
  if (!sample) return;
  plan.add_sample(first_token + n_tokens - 1, sequence.slot, kSampleToken);
  step.sampled.push_back(&sequence);
  sequence.n_samples_launched += 1;
}

bool wants_decode(const Sequence& sequence) {
  return !sequence.finished && !sequence.in_prefill() &&
         sequence.n_samples_launched < sequence.request.max_tokens;
}

}  // namespace

void schedule_step(std::span<const std::unique_ptr<Sequence>> running, int max_tokens,
                   StepPlan& plan, ScheduledStep& step) {
  plan.clear();
  step.sequences.clear();
  step.runs.clear();
  step.sampled.clear();
  step.n_tokens = 0;
  step.n_prefill_chunks = 0;

  for (const auto& sequence : running) {
    if (step.n_tokens == max_tokens) return;
    if (!wants_decode(*sequence)) continue;
    const TokenRef token = TokenRef::last_sample_of(sequence->slot);
    add(*sequence, {&token, 1}, true, plan, step);
  }

  std::vector<TokenRef> chunk;
  for (const auto& sequence : running) {
    if (step.n_tokens == max_tokens) return;
    if (sequence->finished || !sequence->in_prefill()) continue;
    const int left = sequence->n_prompt() - sequence->n_launched;
    const int n_tokens = std::min(left, max_tokens - step.n_tokens);
    if (n_tokens < sequence->n_prompt()) step.n_prefill_chunks += 1;
    chunk.clear();
    const auto part = std::span(sequence->request.prompt)
                          .subspan(static_cast<std::size_t>(sequence->n_launched),
                                   static_cast<std::size_t>(n_tokens));
    for (const std::int32_t id : part) chunk.push_back(TokenRef::literal(id));
    add(*sequence, chunk, n_tokens == left, plan, step);
  }
}

}  // namespace moeopt
