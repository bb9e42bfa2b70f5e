// Generation of one answer, as the verbs use it: streamed to standard output or collected.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/session.h"
#include "engine/request.h"

namespace moeopt::cli {

struct GeneratedToken {
  std::int32_t id;
  float logprob;
  std::vector<TokenLogprob> top;
};

struct Generated {
  std::string text;
  std::vector<GeneratedToken> tokens;
  FinishReason finish = FinishReason::kNone;
  int n_prompt = 0;
  double first_token_s = 0;  // from submission
  double total_s = 0;

  // Output tokens after the first, per second; 0 with fewer than two.
  double decode_tokens_per_second() const;
};

// Runs the engine until the request has ended; `on_text` gets each piece as it becomes final.
// Ctrl-C (an InterruptGuard of the caller's) cancels the request: what was generated is returned.
Generated generate(Session& session, Request request,
                   const std::function<void(std::string_view)>& on_text = {});

// "41 prompt tokens, 87 generated (stop) · first after 12 ms · 310 tokens/s"
std::string summary_line(const Generated& generated);

}  // namespace moeopt::cli
