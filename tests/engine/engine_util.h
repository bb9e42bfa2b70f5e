// What the engine's tests share: requests, and what came back of them.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/request.h"

namespace moeopt {

struct Collected {
  std::vector<std::int32_t> ids;
  FinishReason finish = FinishReason::kNone;
  int n_finishes = 0;
  int n_events = 0;
  int cached_tokens = -1;
  std::string error;
  std::vector<SampledToken> prompt;
  std::vector<std::vector<TokenLogprob>> prompt_top;

  void take(const Event& event) {
    n_events += 1;
    cached_tokens = event.cached_tokens;
    for (const SampledToken& token : event.prompt) {
      prompt.push_back(token);
      prompt_top.emplace_back(token.top.begin(), token.top.end());
    }
    if (event.token != nullptr) ids.push_back(event.token->id);
    if (event.finish == FinishReason::kNone) return;
    finish = event.finish;
    error = event.error;
    n_finishes += 1;
  }
};

inline EventSink collect_into(Collected& out) {
  return [&out](const Event& event) { out.take(event); };
}

// One for each choice.
inline EventSink collect_into(std::vector<Collected>& out) {
  return [&out](const Event& event) {
    out.resize(std::max(out.size(), static_cast<std::size_t>(event.choice) + 1));
    out[static_cast<std::size_t>(event.choice)].take(event);
  };
}

inline Request request_of(std::vector<std::int32_t> prompt, int max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

// 0, 1, ... modulo 50, from `first` on.
inline std::vector<std::int32_t> counting(int n, int first = 0) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < n; ++i) ids.push_back((first + i) % 50);
  return ids;
}

inline EngineOptions options_of(int max_len, int step_tokens) {
  EngineOptions options;
  options.max_model_len = max_len;
  options.max_step_tokens = step_tokens;
  return options;
}

inline void run(Engine& engine) {
  while (engine.step()) {
  }
}

inline Collected answer(Engine& engine, Request request) {
  Collected got;
  engine.submit(std::move(request), collect_into(got));
  run(engine);
  return got;
}

}  // namespace moeopt
