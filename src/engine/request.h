// A generation request and what comes back of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "backend/sampling_params.h"
#include "text/grammar/token_constraint.h"

namespace moeopt {

using RequestId = std::uint64_t;

struct Request {
  std::vector<std::int32_t> prompt;  // not empty
  SamplingParams sampling;
  int n = 1;                             // choices; choice i samples with seed + i
  int max_tokens = 256;                  // of output, of each choice; > 0
  std::vector<std::string> stop;         // the output ends before the first of them
  std::vector<std::int32_t> stop_ids;    // end of sequence ids; not part of the text
  bool ignore_eos = false;               // stop_ids do not stop
  bool skip_special = true;              // control tokens leave no text
  std::chrono::milliseconds timeout{0};  // from submission to the end; 0: none
  // Empty, or one per choice.
  std::vector<std::unique_ptr<TokenConstraint>> constraints;
  bool prompt_logprobs = false;  // Event::prompt: the prompt's tokens with logprobs, for echo
};

enum class FinishReason {
  kNone,
  kStop,       // a stop id or a stop string
  kLength,     // max_tokens, or the context is full
  kCancelled,  // by the caller
  kTimeout,    // Request::timeout, or too long in the queue
  kError,      // Event::error says why
};

// Something happened to a choice of a request: text became final, a token was sampled, it ended.
// Everything it points to lives for the call alone.
struct Event {
  RequestId request = 0;
  int choice = 0;
  std::string_view text = {};           // new text, whole characters, never part of a stop string
  const SampledToken* token = nullptr;  // behind this event; null when only held-back text follows
  FinishReason finish = FinishReason::kNone;
  int cached_tokens = 0;        // prompt tokens whose keys and values were there already
  std::string_view error = {};  // why, with kError and kTimeout
  // With prompt_logprobs, in the first event of each choice: one entry per prompt token, logprob
  // given the tokens before it (the first one's is NaN), `top` as Request::sampling asks.
  std::span<const SampledToken> prompt = {};
};

// Must not block: it runs on the engine's thread.
using EventSink = std::function<void(const Event&)>;

std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", ...

}  // namespace moeopt
