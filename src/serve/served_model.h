// The model that is served, as the endpoints need it. Made once it is loaded, then never changed;
// everything here may be used by any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/sampling_params.h"
#include "base/json.h"
#include "engine/engine_service.h"
#include "plan/optimisations.h"
#include "routing/log_writer.h"
#include "serve/openai/grammar_cache.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace moeopt::serve {

struct ServedModel {
  std::vector<std::string> names;  // the first is its name in answers
  const Tokenizer* tokenizer = nullptr;
  const LoadedChatTemplate* chat_template = nullptr;  // null: it has none
  SamplingParams sampling;                            // what a request does not say
  std::optional<int> max_tokens;
  std::vector<std::int32_t> stop_ids;
  int max_model_len = 0;
  std::int64_t vocab = 0;
  std::string architecture, backend;
  Json plan;
  EngineService* engine = nullptr;
  // With their counters read now.
  std::function<std::vector<OptimisationState>()> optimisations;
  std::function<RoutingLogWriter::State()> routing_log;  // empty: nothing is recorded
  std::shared_ptr<GrammarCache> grammars = std::make_shared<GrammarCache>();

  const std::string& name() const { return names.front(); }
};

}  // namespace moeopt::serve
