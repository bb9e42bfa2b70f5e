// Engine: who runs. Deadlines, admission, blocks, preemption, and giving everything back.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/engine.h"

namespace moeopt {
namespace {

constexpr auto kOrder = [](const std::unique_ptr<Sequence>& sequence) { return sequence->order; };

std::chrono::milliseconds shorter(std::chrono::milliseconds a, std::chrono::milliseconds b) {
  if (a.count() == 0 || b.count() == 0) return std::max(a, b);
  return std::min(a, b);
}

}  // namespace

// By index: a sink may submit another request.
void Engine::expire() {
  const Clock::time_point now = options_.now();
  for (std::size_t i = 0; i < waiting_.size(); ++i) expire(*waiting_[i], now);
  for (std::size_t i = 0; i < running_.size(); ++i) expire(*running_[i], now);
}

void Engine::expire(Sequence& sequence, Clock::time_point now) {
  if (sequence.finished) return;
  const RequestState& state = *sequence.state;
  const auto timeout = shorter(state.request.timeout, options_.request_timeout);
  const auto waited = now - state.submitted;
  if (timeout.count() > 0 && waited >= timeout) {
    end_now(sequence, FinishReason::kTimeout,
            fmt::format("the request took longer than {} ms", timeout.count()));
  } else if (options_.queue_timeout.count() > 0 && !state.was_admitted &&
             waited >= options_.queue_timeout) {
    end_now(sequence, FinishReason::kTimeout,
            fmt::format("the request waited longer than {} ms for its turn",
                        options_.queue_timeout.count()));
  }
}

void Engine::admit() {
  retire_finished();
  for (std::size_t i = 0; i < waiting_.size() && !free_slots_.empty();) {
    Sequence& sequence = *waiting_[i];
    if (sequence.finished || awaits_first_choice(sequence)) {
      ++i;
      continue;
    }
    bool placed = false;
    try {
      placed = place(sequence);
    } catch (const std::exception& error) {
      kv_.release(sequence.table);
      sequence.shares = false;
      end_now(sequence, FinishReason::kError, error.what());
      ++i;
      continue;
    }
    if (!placed) return;
    auto owned = std::move(waiting_[i]);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    const auto at = std::ranges::upper_bound(running_, owned->order, {}, kOrder);
    running_.insert(at, std::move(owned));
  }
}

// The choices of a request share its prompt's blocks: one computes them, the others wait for it.
bool Engine::awaits_first_choice(const Sequence& sequence) const {
  if (sequence.request().n == 1 || sequence.shares) return false;
  return std::ranges::any_of(running_, [&](const auto& other) {
    return other->state == sequence.state && !other->finished && !other->has_prompt_computed();
  });
}

bool Engine::place(Sequence& sequence) {
  const int spare = static_cast<int>(running_.size());  // room for one more block of each
  const bool look_up = !sequence.state->wants_scores();
  std::optional<int> n_there = sequence.shares
                                   ? kv_.resume(sequence.table, sequence.n_prompt(), spare)
                                   : kv_.start(sequence.table, sequence.tokens, look_up, spare);
  if (!n_there && running_.empty() && in_flight_.empty()) {
    // Alone it fits: check() saw to that.
    release_shares();
    n_there = kv_.start(sequence.table, sequence.tokens, look_up, 0);
    MOEOPT_CHECK(n_there.has_value());
  }
  if (!n_there) return false;
  bind(sequence, *n_there);
  return true;
}

void Engine::bind(Sequence& sequence, int n_there) {
  SamplingParams params = sequence.request().sampling;
  params.seed += static_cast<std::uint64_t>(sequence.choice);
  const int slot = free_slots_.back();
  backend_.bind_slot(slot, params, sequence.request().prompt);
  if (sequence.n_output() > 0) {
    backend_.resume_slot(
        slot, std::span(sequence.tokens).subspan(static_cast<std::size_t>(sequence.n_prompt())));
  }
  free_slots_.pop_back();
  sequence.slot = slot;
  sequence.prefill_begin = n_there;
  sequence.n_prefill = static_cast<int>(sequence.tokens.size());
  sequence.n_launched = n_there;
  sequence.n_computed = n_there;
  sequence.n_samples_launched = sequence.n_output();
  sequence.scores_prompt = sequence.state->wants_scores();
  sequence.state->was_admitted = true;
  if (std::exchange(sequence.was_admitted, true)) return;

  const auto n_prompt = static_cast<std::uint64_t>(sequence.n_prompt());
  const auto n_found = static_cast<std::uint64_t>(n_there);
  sequence.cached_tokens = n_there;
  counters_.prompt_tokens += n_prompt;
  if (sequence.shares) {
    counters_.shared_prompt_tokens += n_found;
  } else if (kv_.has_prefix_cache() && !sequence.scores_prompt) {
    counters_.prefix_queries_tokens += n_prompt;
    counters_.prefix_hits_tokens += n_found;
  }
}

// A block for the next token of everyone who decodes. The youngest gives way, when nothing of it is
// on its way.
void Engine::make_room() {
  while (!grow_all()) {
    if (!in_flight_.empty()) {
      deliver_oldest();
    } else if (!release_shares()) {
      preempt_youngest();
    }
    retire_finished();
  }
}

bool Engine::grow_all() {
  return std::ranges::all_of(running_, [this](const auto& sequence) {
    return !wants_decode(*sequence) || kv_.grow(sequence->table, sequence->n_launched + 1);
  });
}

// Waiting choices give up the prompt blocks they hold; false when none did.
bool Engine::release_shares() {
  bool any = false;
  for (const auto& sequence : waiting_) {
    if (!std::exchange(sequence->shares, false)) continue;
    kv_.release(sequence->table);
    any = true;
  }
  return any;
}

void Engine::preempt_youngest() {
  MOEOPT_CHECK(running_.size() > 1u);
  std::unique_ptr<Sequence> sequence = std::move(running_.back());
  running_.pop_back();
  MOEOPT_CHECK(sequence->in_flight == 0);
  kv_.release(sequence->table);
  free_slots_.push_back(std::exchange(sequence->slot, -1));
  sequence->shares = false;
  sequence->scores_prompt = false;
  sequence->n_launched = sequence->n_computed = sequence->n_prefill = 0;
  counters_.preemptions += 1;
  const auto at = std::ranges::upper_bound(waiting_, sequence->order, {}, kOrder);
  waiting_.insert(at, std::move(sequence));
}

void Engine::share_with_waiting(const Sequence& first) {
  for (const auto& other : waiting_) {
    if (other->state != first.state || other->shares || other->was_admitted || other->finished) {
      continue;
    }
    kv_.share(first.table, first.n_prompt(), other->table);
    other->shares = true;
  }
}

void Engine::retire_finished() {
  std::erase_if(running_, [this](const std::unique_ptr<Sequence>& sequence) {
    if (!sequence->finished || sequence->in_flight > 0) return false;
    kv_.release(sequence->table);
    free_slots_.push_back(sequence->slot);
    return true;
  });
  std::erase_if(waiting_, [this](const std::unique_ptr<Sequence>& sequence) {
    if (!sequence->finished) return false;
    kv_.release(sequence->table);
    return true;
  });
}

}  // namespace moeopt
