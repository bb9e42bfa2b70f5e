// The engine's state of requests: RequestState is what a request's choices share, Sequence is one
// choice, from the queue to its end.
// Invariant: tokens [0, n_launched) are in the KV blocks or on their way there in launched steps,
// [0, n_computed) of them by finished steps; in_flight counts the launched steps that still hold
// rows of it. Its slot and blocks go back only when nothing is in flight.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/text_output.h"
#include "kv/kv_cache.h"

namespace moeopt {

struct RequestState {
  RequestId id = 0;
  Request request;
  EventSink sink;
  std::chrono::steady_clock::time_point submitted;
  bool was_admitted = false;  // any choice of it

  // prompt_logprobs: one entry per prompt token, and how many of them are known.
  std::vector<SampledToken> prompt_scores;
  std::vector<TokenLogprob> prompt_top;  // [prompt, n_logprobs]; prompt_scores point into it
  int n_scored = 0;

  int n_prompt() const { return static_cast<int>(request.prompt.size()); }
  bool wants_scores() const { return request.prompt_logprobs && n_scored < n_prompt(); }
};

struct Sequence {
  std::shared_ptr<RequestState> state;
  int choice = 0;
  std::uint64_t order = 0;           // of arrival
  std::unique_ptr<TextOutput> text;  // null when the engine has no tokenizer
  std::vector<std::int32_t> tokens;  // prompt, then the sampled ids received

  int slot = -1;
  BlockTable table;
  int prefill_begin = 0;       // positions that were there when it was admitted
  int n_prefill = 0;           // tokens that were known then
  int n_launched = 0;          // positions sent to the backend
  int n_computed = 0;          // positions of finished steps
  int n_samples_launched = 0;  // output tokens asked of the backend
  int in_flight = 0;
  int cached_tokens = 0;       // found at its first admission
  bool scores_prompt = false;  // its prefill is to give the prompt's logprobs
  bool shares = false;         // its table was taken over from the first choice, resume() is due
  bool was_admitted = false;   // ever
  bool has_spoken = false;     // an event was sent
  bool finished = false;       // its end is decided
  bool closed = false;         // its finishing event was sent
  bool failed = false;         // its blocks may hold anything

  const Request& request() const { return state->request; }
  int n_prompt() const { return state->n_prompt(); }
  int n_output() const { return static_cast<int>(tokens.size()) - n_prompt(); }
  bool in_prefill() const { return n_launched < n_prefill; }
  bool has_prompt_computed() const { return n_computed >= n_prompt(); }
  TokenConstraint* constraint() const {
    const auto& all = request().constraints;
    return all.empty() ? nullptr : all[static_cast<std::size_t>(choice)].get();
  }
};

}  // namespace moeopt
