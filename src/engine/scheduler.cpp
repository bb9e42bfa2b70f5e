#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

namespace moeopt {
namespace {

// A chunk that is not the end of its prompt is not worth its overhead below this.
constexpr int kLeastChunk = 8;

struct Prefill {
  Sequence* sequence;
  int most;  // tokens left, or fewer that its logit rows allow
  int n_tokens = 0;
};

class Planner {
 public:
  // `budget`: null when no stream waits for this step.
  Planner(const SchedulerLimits& limits, const StepBudget* budget, StepPlan& plan,
          ScheduledStep& step)
      : limits_(limits), budget_(budget), plan_(plan), step_(step), room_(limits.max_tokens) {}

  int room() const { return room_; }

  void decode(Sequence& sequence) {
    const TokenRef token = TokenRef::last_sample_of(sequence.slot);
    room_ -= 1;
    step_.work.decode_sequences += 1;
    add(sequence, {&token, 1}, true);
  }

  void share_out(std::vector<Prefill>& prefills);
  void share_out_whole(std::vector<Prefill>& prefills);
  void prefill(const Prefill& prefill);

 private:
  // Gives up to `most` further tokens, within the room and the time that is left.
  void give(Prefill& to, int most, bool at_least_one);
  void add(Sequence& sequence, std::span<const TokenRef> tokens, bool sample);
  // What a step may hold of this sequence alone, `given` tokens on.
  double tokens_in_time(const Sequence& sequence, int given) const {
    return budget_ == nullptr ? limits_.max_tokens
                              : budget_->tokens_at(sequence.n_launched + given);
  }

  const SchedulerLimits& limits_;
  const StepBudget* budget_;
  StepPlan& plan_;
  ScheduledStep& step_;
  int room_;
  double time_left_ = 1;  // of the step's prefill share
  std::vector<TokenRef> chunk_;
};

void Planner::give(Prefill& to, int most, bool at_least_one) {
  const double in_time = tokens_in_time(*to.sequence, to.n_tokens);
  const int left = to.most - to.n_tokens;
  int n_tokens = std::min({left, most, room_, static_cast<int>(time_left_ * in_time)});
  if (n_tokens < std::min(left, kLeastChunk)) {
    n_tokens = at_least_one ? std::max(n_tokens, std::min({left, room_, 1})) : 0;
  }
  to.n_tokens += n_tokens;
  room_ -= n_tokens;
  time_left_ = std::max(0.0, time_left_ - n_tokens / in_time);
}

void Planner::share_out(std::vector<Prefill>& prefills) {
  if (prefills.empty() || room_ == 0) return;
  Prefill& oldest = prefills.front();
  if (prefills.size() == 1) return give(oldest, room_, true);
  const int half_in_time = static_cast<int>(tokens_in_time(*oldest.sequence, 0) / 2);
  give(oldest, std::max(1, std::min(room_ / 2, half_in_time)), true);
  std::vector<Prefill*> others;
  for (Prefill& other : prefills) {
    if (&other != &oldest) others.push_back(&other);
  }
  std::ranges::stable_sort(others, {}, [](const Prefill* other) { return other->most; });
  for (Prefill* other : others) give(*other, room_, false);
  give(oldest, room_, false);
}

void Planner::share_out_whole(std::vector<Prefill>& prefills) {
  for (Prefill& prefill : prefills) {
    if (prefill.most > room_) continue;
    prefill.n_tokens = prefill.most;
    room_ -= prefill.most;
  }
}

void Planner::prefill(const Prefill& prefill) {
  if (prefill.n_tokens == 0) return;
  Sequence& sequence = *prefill.sequence;
  const int begin = sequence.n_launched;
  const bool whole = begin + prefill.n_tokens == sequence.n_prefill;
  if (prefill.n_tokens < sequence.n_prefill - sequence.prefill_begin) step_.n_prefill_chunks += 1;
  chunk_.clear();
  for (const std::int32_t id :
       std::span(sequence.tokens)
           .subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(prefill.n_tokens))) {
    chunk_.push_back(TokenRef::literal(id));
  }
  step_.work.prefill_tokens += prefill.n_tokens;
  step_.work.prefill_context += prefill.n_tokens * (begin + 0.5 * prefill.n_tokens);
  if (sequence.table.copy_from >= 0) {
    plan_.add_copy(sequence.table.copy_from,
                   sequence.table.blocks[static_cast<std::size_t>(sequence.table.copy_to)]);
  }
  add(sequence, chunk_, whole);
}

void Planner::add(Sequence& sequence, std::span<const TokenRef> tokens, bool sample) {
  const int begin = sequence.n_launched;
  const int first = plan_.add_sequence(sequence.slot, begin, tokens, sequence.table.blocks);
  const int n_tokens = static_cast<int>(tokens.size());
  step_.parts.push_back({&sequence, begin, n_tokens});
  step_.n_tokens += n_tokens;
  sequence.n_launched += n_tokens;
  sequence.in_flight += 1;
  for (int i = 0; i < n_tokens; ++i) {
    const bool scored = sequence.scores_prompt && begin + i + 1 < sequence.n_prompt();
    const bool sampled = sample && i + 1 == n_tokens;
    if (!scored && !sampled) continue;
    plan_.add_sample(first + i, sequence.slot,
                     (scored ? kWantLogits : 0) | (sampled ? kSampleToken : 0));
    if (scored) step_.scored.push_back({&sequence, begin + i});
  }
  if (!sample) return;
  step_.sampled.push_back(&sequence);
  sequence.n_samples_launched += 1;
}

}  // namespace

bool wants_decode(const Sequence& sequence) {
  if (sequence.finished || sequence.in_prefill()) return false;
  if (sequence.n_samples_launched >= sequence.request().max_tokens) return false;
  // A constraint must have seen the last id before the next one can be drawn.
  return sequence.constraint() == nullptr || sequence.in_flight == 0;
}

void ScheduledStep::clear() {
  parts.clear();
  sampled.clear();
  scored.clear();
  n_tokens = 0;
  n_prefill_chunks = 0;
  work = {};
}

void schedule_step(std::span<const std::unique_ptr<Sequence>> running,
                   const SchedulerLimits& limits, const StepBudget& budget, StepPlan& plan,
                   ScheduledStep& step) {
  plan.clear();
  step.clear();
  const bool has_streams = std::ranges::any_of(
      running, [](const auto& sequence) { return !sequence->finished && !sequence->in_prefill(); });
  Planner planner(limits, has_streams ? &budget : nullptr, plan, step);

  std::vector<Prefill> prefills;
  const int rows_to_score =
      std::max(1, limits.max_logit_rows - static_cast<int>(running.size()) + 1);
  for (const auto& sequence : running) {
    if (sequence->finished || !sequence->in_prefill()) continue;
    int most = sequence->n_prefill - sequence->n_launched;
    if (sequence->scores_prompt) most = std::min(most, rows_to_score);
    prefills.push_back({sequence.get(), most});
  }
  // Rows to score are for one sequence a step.
  bool scores = false;
  std::erase_if(prefills, [&scores](const Prefill& prefill) {
    return prefill.sequence->scores_prompt && std::exchange(scores, true);
  });

  const auto n_decodes =
      std::ranges::count_if(running, [](const auto& sequence) { return wants_decode(*sequence); });
  const bool crowded_out = !limits.chunked_prefill && !prefills.empty() &&
                           prefills.front().most > limits.max_tokens - n_decodes;
  if (!crowded_out) {
    for (const auto& sequence : running) {
      if (planner.room() > 0 && wants_decode(*sequence)) planner.decode(*sequence);
    }
  }
  if (limits.chunked_prefill) {
    if (n_decodes > 0 && budget.wants_decode_alone()) return;
    planner.share_out(prefills);
  } else {
    planner.share_out_whole(prefills);
  }
  for (const Prefill& prefill : prefills) planner.prefill(prefill);
}

}  // namespace moeopt
