// A generation request and what comes back of it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "backend/sampling_params.h"

namespace moeopt {

using RequestId = std::uint64_t;

struct Request {
  std::vector<std::int32_t> prompt;  // not empty
  SamplingParams sampling;
  int max_tokens = 256;                // of output; > 0
  std::vector<std::string> stop;       // the output ends before the first of them
  std::vector<std::int32_t> stop_ids;  // end of sequence ids; not part of the text
  bool ignore_eos = false;             // stop_ids do not stop
  bool skip_special = true;            // control tokens leave no text
};

enum class FinishReason {
  kNone,
  kStop,       // a stop id or a stop string
  kLength,     // max_tokens, or the context is full
  kCancelled,  // by the caller
  kError,      // the model's logits were not finite
};

// Something happened to a request: text became final, a token was sampled, it ended.
struct Event {
  RequestId request;
  std::string_view text;      // new text, whole characters, never part of a stop string
  const SampledToken* token;  // the token behind this event; null when only held-back text follows
  FinishReason finish = FinishReason::kNone;
};

using EventSink = std::function<void(const Event&)>;

std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", ...

}  // namespace moeopt
