#include "engine/engine.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "base/bypass.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"

namespace moeopt {
namespace {

std::vector<int> experts_per_layer(const ModelSpec& model) {
  std::vector<int> experts;
  for (const LayerSpec& layer : model.layers) {
    experts.push_back(layer.moe ? layer.moe->n_experts : 0);
  }
  return experts;
}

}  // namespace

Engine::Engine(Backend& backend, const Tokenizer* tokenizer, const EngineOptions& options)
    : backend_(backend),
      tokenizer_(tokenizer),
      options_(options),
      kv_(backend.kv_blocks(), backend.kv_layout().block_tokens, options.prefix_cache),
      free_slots_(static_cast<std::size_t>(backend.capacity().sequences)),
      plan_(backend.capacity()),
      budget_(options.max_step_ms, std::max(1, options.max_step_tokens),
              context_of_equal_cost(backend.model())),
      mask_(static_cast<std::size_t>((backend.model().vocab + 63) / 64)),
      expert_counts_(experts_per_layer(backend.model())) {
  std::iota(free_slots_.rbegin(), free_slots_.rend(), 0);
  running_.reserve(free_slots_.size());
  if (is_bypassed("chunked-prefill")) {  // prompts that fill more than a step are then refused
    options_.chunked_prefill = false;
    options_.max_model_len = std::min(options_.max_model_len, options_.max_step_tokens);
  }
  MOEOPT_CHECK(options.max_model_len > 0);
  MOEOPT_CHECK(options.max_step_tokens >= backend.capacity().sequences);
  MOEOPT_CHECK(options.max_step_tokens <= backend.capacity().tokens);
  // Without chunks a step must hold the longest prompt.
  if (!options_.chunked_prefill) MOEOPT_CHECK(options_.max_step_tokens >= options_.max_model_len);
  MOEOPT_CHECK(backend.max_logit_rows() >= backend.capacity().sequences);
}

RequestId Engine::submit(Request request, EventSink sink) {
  check(request);
  const RequestId id = next_id_++;
  enqueue(id, std::move(request), std::move(sink));
  return id;
}

void Engine::check(Request& request) const {
  const std::int64_t vocab = backend_.model().vocab;
  if (request.prompt.empty()) throw_error(ErrorCode::kUsage, "the prompt is empty");
  for (const std::int32_t id : request.prompt) {
    if (id < 0 || id >= vocab) {
      throw_error(ErrorCode::kUsage, "token id {} is outside the vocabulary of {}", id, vocab);
    }
  }
  if (request.max_tokens <= 0) {
    throw_error(ErrorCode::kUsage, "max_tokens is {}, it must be positive", request.max_tokens);
  }
  if (request.n < 1 || request.n > kMaxChoices) {
    throw_error(ErrorCode::kUsage, "n is {}, it must be from 1 to {}", request.n, kMaxChoices);
  }
  if (!request.constraints.empty()) {
    MOEOPT_CHECK(static_cast<int>(request.constraints.size()) == request.n);
  }
  if (!request.stop.empty() && tokenizer_ == nullptr) {
    throw_error(ErrorCode::kUsage, "stop strings need a tokenizer, and the model has none");
  }
  const auto room = options_.max_model_len - static_cast<std::int64_t>(request.prompt.size());
  if (room <= 0) {
    throw Error(ErrorCode::kUsage,
                fmt::format("the prompt has {} tokens, the context holds {}", request.prompt.size(),
                            options_.max_model_len),
                "shorten the prompt or raise --max-model-len");
  }
  request.max_tokens = static_cast<int>(std::min<std::int64_t>(request.max_tokens, room));
  const int blocks = kv_.blocks_for(static_cast<int>(request.prompt.size()) + request.max_tokens);
  if (blocks > kv_.pool().n_blocks()) {
    throw Error(ErrorCode::kUsage,
                fmt::format("the request needs {} KV blocks, the pool has {}", blocks,
                            kv_.pool().n_blocks()),
                "lower max_tokens or give the KV cache more memory");
  }
  if (!request.ignore_eos) {
    request.sampling.banned_until_min_tokens.insert(request.sampling.banned_until_min_tokens.end(),
                                                    request.stop_ids.begin(),
                                                    request.stop_ids.end());
  }
  validate(request.sampling, vocab);
}

void Engine::enqueue(RequestId id, Request request, EventSink sink) {
  auto state = std::make_shared<RequestState>();
  state->id = id;
  state->sink = std::move(sink);
  state->request = std::move(request);
  state->submitted = options_.now();
  const Request& asked = state->request;
  if (asked.prompt_logprobs) {
    const auto n_top = static_cast<std::size_t>(std::max(0, asked.sampling.n_logprobs));
    state->prompt_top.resize(asked.prompt.size() * n_top);
    state->prompt_scores.resize(asked.prompt.size());
    state->prompt_scores[0] = {
        -1, asked.prompt[0], std::numeric_limits<float>::quiet_NaN(), {}, true};
    state->n_scored = 1;
  }
  std::vector<std::unique_ptr<Sequence>> choices;
  for (int choice = 0; choice < asked.n; ++choice) {
    auto sequence = std::make_unique<Sequence>();
    sequence->state = state;
    sequence->choice = choice;
    sequence->order = next_order_++;
    sequence->tokens = asked.prompt;
    if (tokenizer_ != nullptr) {
      sequence->text = std::make_unique<TextOutput>(*tokenizer_, asked.skip_special, asked.stop);
    }
    choices.push_back(std::move(sequence));
  }
  for (auto& sequence : choices) waiting_.push_back(std::move(sequence));
}

// Slots, blocks and queues are put in order by step(): this may be called from a sink. By index: a
// sink may submit another request.
void Engine::cancel(RequestId id) {
  cancel_if([id](const Sequence& sequence) { return sequence.state->id == id; });
}

void Engine::cancel_all() {
  cancel_if([](const Sequence&) { return true; });
}

void Engine::cancel_if(const std::function<bool(const Sequence&)>& is_meant) {
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    if (is_meant(*waiting_[i])) end_now(*waiting_[i], FinishReason::kCancelled, {});
  }
  for (std::size_t i = 0; i < running_.size(); ++i) {
    if (is_meant(*running_[i])) end_now(*running_[i], FinishReason::kCancelled, {});
  }
}

bool Engine::step() {
  try {
    expire();
    admit();
    const std::size_t before = in_flight_.size();
    launch();
    const bool launched = in_flight_.size() > before;
    if (!in_flight_.empty() && (before > 0 || !options_.overlap || !launched)) deliver_oldest();
    retire_finished();
  } catch (const std::exception& error) {
    recover(error.what());
  } catch (...) {
    recover("an unknown exception");
  }
  if (!is_busy()) check_idle();
  notify_observer();
  return is_busy();
}

void Engine::notify_observer() const {
  if (!observer_) return;
  try {
    observer_();
  } catch (const std::exception& error) {
    log::warning("the engine's observer failed: {}", error.what());
  }
}

void Engine::check_idle() const {
  kv_.check_identity();
  MOEOPT_CHECK(kv_.pool().n_live() == 0);
  MOEOPT_CHECK(static_cast<int>(free_slots_.size()) == backend_.capacity().sequences);
}

void Engine::launch() {
  make_room();
  InFlight next;
  const SchedulerLimits limits{options_.max_step_tokens, backend_.max_logit_rows(),
                               options_.chunked_prefill};
  schedule_step(running_, limits, budget_, plan_, next.step);
  if (next.step.n_tokens == 0) return;
  try {
    set_masks(next.step);
    next.launched = options_.now();
    backend_.prepare(plan_);
    next.ticket = backend_.launch();
  } catch (const std::exception& error) {
    step_failed(next.step, error.what());
    return;
  }
  for (const ScheduledStep::Part& part : next.step.parts) kv_.copied(part.sequence->table);
  counters_.steps += 1;
  counters_.prefill_tokens += static_cast<std::uint64_t>(next.step.work.prefill_tokens);
  counters_.prefill_chunks += static_cast<std::uint64_t>(next.step.n_prefill_chunks);
  in_flight_.push_back(std::move(next));
}

// A constraint that fails ends its own sequence; the rows of it in this step are then for nothing.
void Engine::set_masks(const ScheduledStep& step) {
  for (Sequence* sequence : step.sampled) {
    TokenConstraint* const constraint = sequence->constraint();
    if (constraint == nullptr || sequence->finished) continue;
    std::ranges::fill(mask_, 0);
    try {
      constraint->fill_mask(mask_);
      if (std::ranges::any_of(mask_, [](std::uint64_t word) { return word != 0; })) {
        backend_.set_mask(sequence->slot, mask_);
      } else if (constraint->complete()) {
        end_now(*sequence, FinishReason::kStop, {});
      } else {
        end_now(*sequence, FinishReason::kError, "the grammar allows no token here");
      }
    } catch (const std::exception& error) {
      end_now(*sequence, FinishReason::kError, error.what());
    }
  }
}

void Engine::forget_prefixes() {
  MOEOPT_CHECK(!is_busy());
  kv_.forget_prefixes();
}

void Engine::fill(EngineSnapshot& snapshot) const {
  const auto unfinished = [](const auto& sequence) { return !sequence->finished; };
  snapshot.running = static_cast<int>(std::ranges::count_if(running_, unfinished));
  snapshot.waiting = static_cast<int>(std::ranges::count_if(waiting_, unfinished));
  snapshot.max_running = backend_.capacity().sequences;
  snapshot.counters = counters_;
  snapshot.blocks_free = kv_.pool().n_free();
  snapshot.blocks_live = kv_.pool().n_live();
  snapshot.blocks_cached = kv_.pool().n_cached();
  snapshot.blocks_total = kv_.pool().n_blocks();
  snapshot.backend = backend_counters();
  snapshot.step_time = step_time_;
  snapshot.last_failure = last_failure_;
  snapshot.state =
      failures_in_a_row_ >= kFailingAfter ? ServiceState::kFailing : ServiceState::kServing;
}

}  // namespace moeopt
