// Engine: what comes back. Results of steps, events, ends, and what happens when something throws.
#include <algorithm>
#include <limits>
#include <utility>

#include "backend/sampling.h"
#include "base/check.h"
#include "base/log.h"
#include "engine/engine.h"

namespace moeopt {

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kTimeout:
      return "timeout";
    case FinishReason::kError:
      return "error";
  }
  return "none";
}

void Engine::deliver_oldest() {
  const InFlight done = std::move(in_flight_.front());
  in_flight_.pop_front();
  StepResult result;
  try {
    result = backend_.wait(done.ticket);
  } catch (const std::exception& error) {
    step_failed(done.step, error.what());
    return;
  }
  failures_in_a_row_ = 0;
  measure(done);
  for (const ScheduledStep::Part& part : done.step.parts) {
    part.sequence->in_flight -= 1;
    part.sequence->n_computed += part.n_tokens;
  }
  if (!result.expert_counts.empty()) expert_counts_.add(result.expert_counts);
  if (route_sink_ != nullptr) hand_over_routes(done.step, result.routes);
  take_scores(done.step, result.logits);
  MOEOPT_CHECK(result.sampled.size() == done.step.sampled.size());
  for (std::size_t i = 0; i < result.sampled.size(); ++i) {
    Sequence& sequence = *done.step.sampled[i];
    // A sequence that ended while this step was on its way gets nothing more.
    if (sequence.finished) continue;
    try {
      take_sample(sequence, result.sampled[i]);
    } catch (const std::exception& error) {
      pend(sequence, nullptr, FinishReason::kError, {}, error.what());
    }
  }
  keep_blocks(done.step);
  notify_observer();
  send_pending();
}

// Rows launched for a sequence that has ended meanwhile are nobody's traffic.
void Engine::hand_over_routes(const ScheduledStep& step, const StepRoutes& routes) {
  route_runs_.clear();
  int row = 0;
  for (const ScheduledStep::Part& part : step.parts) {
    const Sequence& sequence = *part.sequence;
    if (!sequence.finished) {
      route_runs_.push_back({sequence.state->id, sequence.choice, row, part.n_tokens,
                             part.first_position, sequence.n_prompt()});
    }
    row += part.n_tokens;
  }
  if (route_runs_.empty()) return;
  route_sink_->on_routes(route_runs_, {routes.ids, routes.weights, routes.n_tokens, routes.top_k});
}

void Engine::measure(const InFlight& done) {
  const Clock::time_point now = options_.now();
  StepMeasurement work = done.step.work;
  const auto began = std::max(done.launched, last_done_);
  work.ms = std::chrono::duration<double, std::milli>(now - began).count();
  last_done_ = now;
  budget_.record(work);
  step_time_.add(work.ms);
}

void Engine::take_scores(const ScheduledStep& step, std::span<const float> logits) {
  const auto vocab = static_cast<std::size_t>(backend_.model().vocab);
  MOEOPT_CHECK(logits.size() == step.scored.size() * vocab);
  for (std::size_t i = 0; i < step.scored.size(); ++i) {
    const auto [sequence, position] = step.scored[i];
    RequestState& state = *sequence->state;
    const auto n_top = static_cast<std::size_t>(std::max(0, state.request.sampling.n_logprobs));
    const auto row = logits.subspan(i * vocab, vocab);
    const auto next = static_cast<std::size_t>(position) + 1;
    const std::int32_t id = state.request.prompt[next];
    const bool finite = is_finite_row(row);
    const double log_sum = finite ? log_sum_exp(row) : 0;
    const auto top = std::span(state.prompt_top).subspan(next * n_top, n_top);
    const std::size_t found = finite ? top_logprobs(row, log_sum, top) : 0;
    const auto logprob = static_cast<float>(row[static_cast<std::size_t>(id)] - log_sum);
    state.prompt_scores[next] = {-1, id, logprob, top.first(found), finite};
    state.n_scored = std::max(state.n_scored, position + 2);
  }
}

void Engine::take_sample(Sequence& sequence, const SampledToken& token) {
  if (!token.finite) {
    const auto why = sequence.constraint() != nullptr
                         ? "no token could be drawn: the logits are not finite or the grammar and "
                           "the bans leave none"
                         : "the model's logits are not finite";
    pend(sequence, nullptr, FinishReason::kError, {}, why);
    return;
  }
  const Request& request = sequence.request();
  sequence.tokens.push_back(token.id);
  counters_.output_tokens += 1;
  if (!request.ignore_eos &&
      std::ranges::find(request.stop_ids, token.id) != request.stop_ids.end()) {
    pend(sequence, &token, FinishReason::kStop,
         sequence.text ? sequence.text->finish().text : std::string());
    return;
  }
  if (TokenConstraint* const constraint = sequence.constraint()) constraint->accept(token.id);
  TextOutput::Piece piece;
  if (sequence.text) piece = sequence.text->push(token.id);
  FinishReason reason = piece.stopped ? FinishReason::kStop : FinishReason::kNone;
  if (reason == FinishReason::kNone && sequence.n_output() == request.max_tokens) {
    reason = FinishReason::kLength;
    if (sequence.text) {
      const TextOutput::Piece rest = sequence.text->finish();
      piece.text += rest.text;
      if (rest.stopped) reason = FinishReason::kStop;
    }
  }
  pend(sequence, &token, reason, std::move(piece.text));
}

// What a finished step has put into whole blocks is there for others from now on.
void Engine::keep_blocks(const ScheduledStep& step) {
  for (const ScheduledStep::Part& part : step.parts) {
    Sequence& sequence = *part.sequence;
    if (sequence.failed) continue;
    kv_.publish(sequence.table, sequence.tokens, sequence.n_computed);
    const bool was_computed = sequence.n_computed - part.n_tokens >= sequence.n_prompt();
    if (sequence.request().n > 1 && sequence.has_prompt_computed() && !was_computed) {
      share_with_waiting(sequence);
    }
  }
}

void Engine::decide(Sequence& sequence, FinishReason reason) {
  sequence.finished = true;
  if (route_sink_ != nullptr) route_sink_->on_finished(sequence.state->id, sequence.choice);
  switch (reason) {
    case FinishReason::kNone:
      break;
    case FinishReason::kStop:
      counters_.finished_stop += 1;
      break;
    case FinishReason::kLength:
      counters_.finished_length += 1;
      break;
    case FinishReason::kCancelled:
      counters_.finished_cancelled += 1;
      break;
    case FinishReason::kTimeout:
      counters_.finished_timeout += 1;
      break;
    case FinishReason::kError:
      counters_.finished_error += 1;
      sequence.failed = true;
      break;
  }
}

void Engine::pend(Sequence& sequence, const SampledToken* token, FinishReason reason,
                  std::string text, std::string error) {
  pending_.push_back({&sequence, std::move(text), token, reason, std::move(error)});
  if (reason != FinishReason::kNone) decide(sequence, reason);
}

void Engine::send_pending() {
  // A sink may cancel others, whose events are then not sent.
  for (const Pending& pending : std::exchange(pending_, {})) {
    Event event;
    event.text = pending.text;
    event.token = pending.token;
    event.finish = pending.finish;
    event.error = pending.error;
    send(*pending.sequence, event);
  }
}

void Engine::send(Sequence& sequence, const Event& event) {
  if (sequence.closed) return;
  sequence.closed = event.finish != FinishReason::kNone;
  Event sent = event;
  sent.request = sequence.state->id;
  sent.choice = sequence.choice;
  sent.cached_tokens = sequence.cached_tokens;
  const RequestState& state = *sequence.state;
  if (!std::exchange(sequence.has_spoken, true) && state.n_scored == state.n_prompt()) {
    sent.prompt = state.prompt_scores;
  }
  try {
    state.sink(sent);
  } catch (const std::exception& error) {
    log::warning("request {}: its sink failed: {}", state.id, error.what());
    end_now(sequence, FinishReason::kError, error.what());
  } catch (...) {
    end_now(sequence, FinishReason::kError, "its sink failed");
  }
}

// Ends a sequence between steps. Its slot and blocks go back in step().
void Engine::end_now(Sequence& sequence, FinishReason reason, std::string_view error) {
  if (sequence.finished && (reason != FinishReason::kError || sequence.closed)) return;
  if (!sequence.finished) decide(sequence, reason);
  Event event;
  std::string text;
  if (reason == FinishReason::kTimeout && sequence.text) text = sequence.text->finish().text;
  event.text = text;
  event.finish = reason;
  event.error = error;
  send(sequence, event);
}

void Engine::step_failed(const ScheduledStep& step, std::string_view why) {
  log::error("a step failed: {}", why);
  counters_.failed_steps += 1;
  failures_in_a_row_ += 1;
  last_failure_ = why;
  for (const ScheduledStep::Part& part : step.parts) part.sequence->in_flight -= 1;
  for (const ScheduledStep::Part& part : step.parts) {
    end_now(*part.sequence, FinishReason::kError, fmt::format("the step failed: {}", why));
  }
}

// The engine's own code threw (no memory): everything that runs ends, what waits goes on.
void Engine::recover(std::string_view why) {
  log::error("the engine recovers from: {}", why);
  counters_.failed_steps += 1;
  failures_in_a_row_ += 1;
  last_failure_ = why;
  pending_.clear();
  while (!in_flight_.empty()) {
    try {
      backend_.wait(in_flight_.front().ticket);
    } catch (const std::exception& error) {
      log::error("and its step failed: {}", error.what());
    }
    in_flight_.pop_front();
  }
  for (const auto& sequence : running_) {
    sequence->in_flight = 0;
    sequence->failed = true;
    if (sequence->finished && !sequence->closed) {  // its end was decided and not sent
      send(*sequence, {.finish = FinishReason::kError, .error = why});
    }
    end_now(*sequence, FinishReason::kError, why);
  }
  retire_finished();
}

}  // namespace moeopt
