// Sequence: the engine's state of one running request.
// Invariant: tokens [0, n_launched) are in the KV blocks or on their way there in launched steps;
// in_flight counts the launched steps that still hold rows of it. Its slot and blocks go back only
// when it is finished and nothing is in flight.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/request.h"
#include "engine/text_output.h"

namespace moeopt {

struct Sequence {
  RequestId id = 0;
  Request request;
  EventSink sink;
  std::unique_ptr<TextOutput> text;  // null when the engine has no tokenizer

  int slot = -1;
  std::vector<std::int32_t> blocks;
  int n_launched = 0;          // positions sent to the backend
  int n_samples_launched = 0;  // of them, how many asked for a sample
  int n_output = 0;            // sampled ids received
  int in_flight = 0;
  bool finished = false;

  int n_prompt() const { return static_cast<int>(request.prompt.size()); }
  bool in_prefill() const { return n_launched < n_prompt(); }
};

}  // namespace moeopt
