// Session: a model made ready to run, stage by stage: found, understood, planned, loaded, started.
// Invariant: nothing is allocated for the model before its plan fits, and no optimisation is called
// applied before the start-up step counted it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/tensor_source.h"
#include "cli/generation_defaults.h"
#include "cpu/ops.h"
#include "engine/engine.h"
#include "engine/engine_service.h"
#include "model/model_spec.h"
#include "plan/memory_plan.h"
#include "plan/optimisations.h"
#include "plan/settings.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace moeopt::cli {

struct SessionOptions {
  std::string model;            // path or name
  std::string backend = "cpu";  // "cpu" or "reference"
  Settings settings;
  bool with_text = true;  // false: no tokenizer is read
  // What start() is doing and how far it is, 0 to 1; beside the bar on a terminal.
  std::function<void(const std::string& what, double fraction)> on_progress;
  bool record_routes = false;  // the backend keeps each step's routes, for a routing log
};

class Session {
 public:
  // Finds the model and plans it; reads config and headers, no weights.
  explicit Session(SessionOptions options);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  // Loads the weights, builds backend and engine, runs the start-up step. Once.
  void start();
  // Puts the started engine on a thread of its own; engine() and backend() are its alone from then
  // on. Once.
  EngineService& serve(const EngineService::Options& options);

  const ModelFolder& folder() const { return folder_; }
  const ModelSpec& spec() const { return spec_; }
  const MemoryPlan& plan() const { return plan_; }
  const GenerationDefaults& defaults() const { return defaults_; }

  // After start().
  Backend& backend() { return *backend_; }
  Engine& engine() { return *engine_; }
  // The engine's, and that of scored texts. Before serve(); after it, the call ends the service.
  void set_route_sink(RouteSink* sink);
  // As engine/scoring.h, on this session's backend, recorded when there is a route sink.
  void score(std::span<const std::int32_t> ids,
             const std::function<void(int position, std::span<const float> logits)>& on_row);
  // Any thread, after serve().
  std::vector<OptimisationState> optimisations() const { return ledger_->states(); }

  // Null when the folder has no tokenizer.json, or with_text was false.
  const Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }
  // Null when the folder has none.
  const LoadedChatTemplate* chat_template() const {
    return chat_template_ ? &*chat_template_ : nullptr;
  }
  // Error(kNotFound) naming what is missing.
  const Tokenizer& require_tokenizer() const;
  // The prompt of a conversation, [{role, content}, ...], with the assistant's turn opened.
  std::vector<std::int32_t> encode_chat(const nlohmann::ordered_json& messages) const;
  std::vector<std::int32_t> encode_prompt(const std::string& text) const;

 private:
  void read_weights();  // into memory, with progress
  // By whoever owns the engine now; without the start-up step.
  EngineCounters engine_counters() const;
  Backend::Counters backend_counters() const;

  SessionOptions options_;
  ModelFolder folder_;
  ModelSpec spec_;
  GenerationDefaults defaults_;
  std::unique_ptr<TensorSource> tensors_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<LoadedChatTemplate> chat_template_;
  std::unique_ptr<cpu::CpuOps> ops_;  // planned with, then the backend's
  MemoryPlan plan_;
  std::unique_ptr<Backend> backend_;
  std::optional<OptimisationLedger> ledger_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<EngineService> service_;
  RouteSink* route_sink_ = nullptr;
  std::uint64_t n_scored_ = 0;
};

}  // namespace moeopt::cli
