// Backend: owns a model's weights, its KV blocks and the whole forward pass.
// The engine calls prepare, launch and wait from one thread, in that order for a step, and may
// launch step n + 1 before it waits for step n. Every call is made from the engine's thread.
// Invariants: launched steps run one after another, in order; prepare() does host work and never
// waits for the device; no allocation after construction; a row's result does not depend on what
// else is in the step.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backend/sampling_params.h"
#include "backend/step_plan.h"
#include "model/model_spec.h"
#include "plan/kv_layout.h"

namespace moeopt {

// Names a launched step; tickets count up from 1.
struct Ticket {
  std::uint64_t step = 0;
};

struct TokenLogprob {
  std::int32_t id;
  float logprob;
};

// One entry per sample of the plan that had kSampleToken, in the plan's order. `logprob` and `top`
// are filled when the slot's parameters ask for logprobs.
struct SampledToken {
  std::int32_t slot;
  std::int32_t id;
  float logprob;                      // of `id`, natural log, before penalties and temperature
  std::span<const TokenLogprob> top;  // the n_logprobs best, descending
  bool finite;                        // false: the row's logits held NaN; `id` is meaningless
};

// Which experts each row of a step went to: [n_moe_layers, n_tokens, top_k], MoE layers in the
// model's order, rows in the plan's, slots in the router's order. A layer with fewer than top_k
// slots ends in id -1, weight 0. Empty unless set_record_routes(true).
struct StepRoutes {
  std::span<const std::int16_t> ids;
  std::span<const float> weights;
  int n_tokens = 0;
  int top_k = 0;
};

// Valid until the next launch() but one; owned by the backend.
struct StepResult {
  std::span<const SampledToken> sampled;
  std::span<const float> logits;                 // rows with kWantLogits, [rows, vocab]
  std::span<const std::uint32_t> expert_counts;  // [n_layers, max experts]: rows routed, this step
  StepRoutes routes = {};
};

class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  virtual std::string name() const = 0;  // "reference", "cpu (amx)", ...
  virtual const ModelSpec& model() const = 0;
  virtual const StepCapacity& capacity() const = 0;
  virtual const KvLayout& kv_layout() const = 0;
  virtual int kv_blocks() const = 0;
  // Rows of a step whose logits may be asked for; at least one for each slot.
  virtual int max_logit_rows() const = 0;

  // A sequence takes a slot: its sampling parameters and the tokens that penalties count as prompt.
  // Not while a launched step that uses the slot is unfinished.
  virtual void bind_slot(int slot, const SamplingParams& params,
                         std::span<const std::int32_t> prompt) = 0;
  // Right after bind_slot: the slot goes on where one ended that had sampled `output`, with its
  // counts and its position in the random stream.
  virtual void resume_slot(int slot, std::span<const std::int32_t> output) = 0;
  // The slot's next sample, of a step that is launched after this, takes none but the ids whose bit
  // is set (bit i % 64 of word i / 64; vocab bits). Not while a launched step samples the slot.
  virtual void set_mask(int slot, std::span<const std::uint64_t> allowed) = 0;

  virtual void prepare(const StepPlan& plan) = 0;
  virtual Ticket launch() = 0;
  virtual StepResult wait(Ticket ticket) = 0;

  // From the next step on each StepResult has its routes. Before the first launch; the memory was
  // planned (ExecutionLimits::record_routes). Error(kUnsupported) from a backend that cannot.
  virtual void set_record_routes(bool record);

  // How many layers' keys and values of a launched step with signal_kv are in place. Any thread.
  virtual int kv_layers_done(Ticket ticket) const = 0;

  // Steps, tokens and (token, expert) rows that the forward pass itself counted since construction.
  struct Counters {
    std::uint64_t steps = 0;
    std::uint64_t tokens = 0;
    std::uint64_t moe_layer_launches = 0;
    std::uint64_t expert_rows = 0;
    std::uint64_t fp8_matrix_products = 0;  // with weights that are e4m3 in memory

    Counters operator-(const Counters& before) const;
  };
  virtual Counters counters() const = 0;
};

}  // namespace moeopt
