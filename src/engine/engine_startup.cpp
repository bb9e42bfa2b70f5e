// Engine: the start-up step, which shows that the model runs and what of the engine's optimisations
// is at work, and is counted apart from traffic.
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "engine/engine.h"

namespace moeopt {

Engine::Counters Engine::start_up_step() {
  MOEOPT_CHECK(!is_busy());
  // A whole block and one token, so that the block can be found again; less when no request of that
  // length fits.
  const int n_prompt = std::min({kv_.block_tokens() + 1, options_.max_model_len - 2,
                                 kv_.pool().n_blocks() * kv_.block_tokens() - 2});
  std::string failure;
  const auto run = [&](int length) {
    Request request;
    request.prompt.assign(static_cast<std::size_t>(length), 0);
    request.max_tokens = 2;
    request.ignore_eos = true;
    submit(std::move(request), [&failure](const Event& event) {
      if (event.finish == FinishReason::kError) failure = event.error;
    });
    while (step()) {
    }
  };
  const int max_step_tokens = options_.max_step_tokens;
  if (options_.chunked_prefill) {
    options_.max_step_tokens =
        std::max(1, std::min(max_step_tokens, (std::max(n_prompt, 1) + 1) / 2));
  }
  run(std::max(1, n_prompt));
  if (options_.prefix_cache && n_prompt > 1) run(n_prompt);
  options_.max_step_tokens = max_step_tokens;
  if (!failure.empty()) {
    throw Error(ErrorCode::kInvalidData, fmt::format("the start-up step failed: {}", failure),
                "the checkpoint's weights are broken, or this is a bug");
  }
  kv_.forget_prefixes();
  kv_.check_identity();
  expert_counts_.reset();
  step_time_ = {};
  backend_at_start_ = backend_.counters();
  return std::exchange(counters_, {});
}

}  // namespace moeopt
