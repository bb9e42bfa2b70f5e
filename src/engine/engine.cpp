#include "engine/engine.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/error.h"

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
    case FinishReason::kError:
      return "error";
  }
  return "none";
}

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
      pool_(backend.kv_blocks()),
      free_slots_(static_cast<std::size_t>(backend.capacity().sequences)),
      plan_(backend.capacity()),
      expert_counts_(experts_per_layer(backend.model())) {
  std::iota(free_slots_.rbegin(), free_slots_.rend(), 0);
  MOEOPT_CHECK(options.max_model_len > 0);
  MOEOPT_CHECK(options.max_step_tokens >= backend.capacity().sequences);
  MOEOPT_CHECK(options.max_step_tokens <= backend.capacity().tokens);
}

int Engine::blocks_needed(const Request& request) const {
  const int tokens = static_cast<int>(request.prompt.size()) + request.max_tokens;
  const int block_tokens = backend_.kv_layout().block_tokens;
  return (tokens + block_tokens - 1) / block_tokens;
}

RequestId Engine::submit(Request request, EventSink sink) {
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
  if (blocks_needed(request) > pool_.n_blocks()) {
    throw Error(ErrorCode::kUsage,
                fmt::format("the request needs {} KV blocks, the pool has {}",
                            blocks_needed(request), pool_.n_blocks()),
                "lower max_tokens or give the KV cache more memory");
  }
  if (!request.ignore_eos) {
    request.sampling.banned_until_min_tokens.insert(request.sampling.banned_until_min_tokens.end(),
                                                    request.stop_ids.begin(),
                                                    request.stop_ids.end());
  }
  validate(request.sampling, vocab);

  auto sequence = std::make_unique<Sequence>();
  sequence->id = next_id_++;
  if (tokenizer_ != nullptr) {
    sequence->text = std::make_unique<TextOutput>(*tokenizer_, request.skip_special, request.stop);
  }
  sequence->request = std::move(request);
  sequence->sink = std::move(sink);
  waiting_.push_back(std::move(sequence));
  return waiting_.back()->id;
}

Engine::Counters Engine::start_up_step() {
  MOEOPT_CHECK(waiting_.empty());
  MOEOPT_CHECK(running_.empty());
  constexpr int kChunk = 2;
  Request request;
  request.prompt.assign(std::size_t{2} * kChunk, 0);
  request.max_tokens = 2;
  request.ignore_eos = true;
  const int max_step_tokens = std::exchange(options_.max_step_tokens, kChunk);
  bool finite = true;
  submit(std::move(request), [&finite](const Event& event) {
    finite = finite && event.finish != FinishReason::kError;
  });
  while (step()) {
  }
  options_.max_step_tokens = max_step_tokens;
  if (!finite) {
    throw Error(ErrorCode::kInvalidData, "the start-up step gave logits that are not finite",
                "the checkpoint's weights are broken, or this is a bug");
  }
  expert_counts_.reset();
  return std::exchange(counters_, {});
}

void Engine::cancel(RequestId id) {
  const auto same = [id](const auto& sequence) { return sequence->id == id; };
  if (const auto found = std::find_if(waiting_.begin(), waiting_.end(), same);
      found != waiting_.end()) {
    finish(**found, FinishReason::kCancelled, {}, nullptr);
    waiting_.erase(found);
    return;
  }
  const auto found = std::find_if(running_.begin(), running_.end(), same);
  if (found == running_.end() || (*found)->finished) return;
  finish(**found, FinishReason::kCancelled, {}, nullptr);  // its slot goes back in step()
}

bool Engine::step() {
  admit();
  const std::size_t before = in_flight_.size();
  launch();
  const bool launched = in_flight_.size() > before;
  if (!in_flight_.empty() && (before > 0 || !options_.overlap || !launched)) deliver_oldest();
  retire_finished();
  const bool busy = !waiting_.empty() || !running_.empty() || !in_flight_.empty();
  if (!busy) {
    pool_.check_identity();
    MOEOPT_CHECK(pool_.n_live() == 0);
    MOEOPT_CHECK(static_cast<int>(free_slots_.size()) == backend_.capacity().sequences);
  }
  return busy;
}

void Engine::admit() {
  while (!waiting_.empty() && !free_slots_.empty()) {
    Sequence& sequence = *waiting_.front();
    auto blocks = pool_.allocate(blocks_needed(sequence.request));
    if (!blocks) return;
    sequence.blocks = std::move(*blocks);
    sequence.slot = free_slots_.back();
    free_slots_.pop_back();
    backend_.bind_slot(sequence.slot, sequence.request.sampling, sequence.request.prompt);
    counters_.prompt_tokens += sequence.request.prompt.size();
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void Engine::launch() {
  InFlight next;
  schedule_step(running_, options_.max_step_tokens, plan_, next.step);
  if (next.step.n_tokens == 0) return;
  backend_.prepare(plan_);
  next.ticket = backend_.launch();
  counters_.steps += 1;
  counters_.prefill_chunks += static_cast<std::uint64_t>(next.step.n_prefill_chunks);
  in_flight_.push_back(std::move(next));
}

void Engine::deliver_oldest() {
  const InFlight done = std::move(in_flight_.front());
  in_flight_.pop_front();
  const StepResult result = backend_.wait(done.ticket);
  for (Sequence* sequence : done.step.sequences) sequence->in_flight -= 1;
  if (!result.expert_counts.empty()) expert_counts_.add(result.expert_counts);
  if (route_sink_ != nullptr) hand_over_routes(done.step, result.routes);
  MOEOPT_CHECK(result.sampled.size() == done.step.sampled.size());
  for (std::size_t i = 0; i < result.sampled.size(); ++i) {
    // A sequence that ended while this step was on its way gets nothing more.
    if (!done.step.sampled[i]->finished) deliver(*done.step.sampled[i], result.sampled[i]);
  }
}

// Rows launched for a sequence that has ended meanwhile are nobody's traffic.
void Engine::hand_over_routes(const ScheduledStep& step, const StepRoutes& routes) {
  route_runs_.clear();
  int row = 0;
  for (std::size_t i = 0; i < step.sequences.size(); ++i) {
    const Sequence& sequence = *step.sequences[i];
    const ScheduledStep::Run run = step.runs[i];
    if (!sequence.finished) {
      route_runs_.push_back(
          {sequence.id, 0, row, run.n_tokens, run.first_position, sequence.n_prompt()});
    }
    row += run.n_tokens;
  }
  if (!route_runs_.empty()) {
    route_sink_->on_routes(route_runs_,
                           {routes.ids, routes.weights, routes.n_tokens, routes.top_k});
  }
}

void Engine::deliver(Sequence& sequence, const SampledToken& token) {
  if (!token.finite) {
    finish(sequence, FinishReason::kError, {}, nullptr);
    return;
  }
  const Request& request = sequence.request;
  sequence.n_output += 1;
  counters_.output_tokens += 1;
  const bool is_stop_id = !request.ignore_eos &&
                          std::find(request.stop_ids.begin(), request.stop_ids.end(), token.id) !=
                              request.stop_ids.end();
  if (is_stop_id) {
    const std::string held = sequence.text ? sequence.text->finish().text : std::string();
    finish(sequence, FinishReason::kStop, held, &token);
    return;
  }
  TextOutput::Piece piece;
  if (sequence.text) piece = sequence.text->push(token.id);
  FinishReason reason = piece.stopped ? FinishReason::kStop : FinishReason::kNone;
  if (reason == FinishReason::kNone && sequence.n_output == request.max_tokens) {
    reason = FinishReason::kLength;
    if (sequence.text) {
      const TextOutput::Piece rest = sequence.text->finish();
      piece.text += rest.text;
      if (rest.stopped) reason = FinishReason::kStop;
    }
  }
  if (reason == FinishReason::kNone) {
    sequence.sink({sequence.id, piece.text, &token, FinishReason::kNone});
  } else {
    finish(sequence, reason, piece.text, &token);
  }
}

void Engine::finish(Sequence& sequence, FinishReason reason, std::string_view text,
                    const SampledToken* token) {
  sequence.finished = true;
  if (route_sink_ != nullptr) route_sink_->on_finished(sequence.id, 0);
  sequence.sink({sequence.id, text, token, reason});
}

void Engine::retire_finished() {
  const auto done = [this](const std::unique_ptr<Sequence>& sequence) {
    if (!sequence->finished || sequence->in_flight > 0) return false;
    pool_.release(sequence->blocks);
    free_slots_.push_back(sequence->slot);
    return true;
  };
  running_.erase(std::remove_if(running_.begin(), running_.end(), done), running_.end());
}

}  // namespace moeopt
