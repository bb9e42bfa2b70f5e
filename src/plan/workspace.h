// The buffers that one forward step needs besides weights and KV blocks: names and formulas, shared
// by the plan that counts them and the backend that allocates them.
// Invariant: a backend allocates exactly the buffers of the plan, by name and size, and no other.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "model/model_spec.h"

namespace moeopt {

// What a backend and an engine are built for. All sizes follow from these and the model.
struct ExecutionLimits {
  int max_sequences = 0;           // slots
  int max_step_tokens = 0;         // rows of one step
  int max_logit_rows = 0;          // rows of one step whose logits are computed
  std::int64_t max_model_len = 0;  // tokens of one sequence
  int block_tokens = 16;
  int kv_blocks = 0;           // of each layer
  bool record_routes = false;  // keep each step's expert ids and weights for a routing log

  int blocks_per_sequence() const {
    return static_cast<int>((max_model_len + block_tokens - 1) / block_tokens);
  }
};

struct WorkspaceBuffer {
  std::string name;
  std::uint64_t bytes = 0;
};

// Bytes that an implementation's ops want as scratch: ops.scratch_bytes(spec, rows, context).
using ScratchFormula =
    std::function<std::uint64_t(const ModelSpec& spec, int max_rows, std::int64_t max_context)>;

// The forward pass in float32 activations ([rows, width], row-major):
//   residual, normed, branch   [T, hidden]           stream, norm's output, block's output
//   query, key, value, context [T, widths]           MLA: query_lora, latent instead of key, value
//                              latent: the projection's rows, then their two parts on their own
//   routing                    [T, top_k] ids and weights
//   logits                     [2, max_logit_rows, vocab]   of two steps in flight, as are
//   sampled, logprobs          [2, max_logit_rows], 20 of the best for each
//   sampler                    [max_sequences, vocab] two uint16 counts: in prompt, in output;
//                              a bit for each id that a grammar allows
//   sort                       [vocab] logit, and candidate of weight and id: one row
//   expert_counts              [2, layers, experts] uint32
//   routes                     [2, MoE layers, T, top_k] int16 ids and weights, with record_routes
//   step_plans                 2 plans of StepPlan's layout
//   step_rows, step_sequences  ids, positions, sampled rows; where each sequence's rows lie
//   vectors                    norms and biases as float32
//   scratch                    what the ops ask for
// Each is rounded up to 64 bytes.
std::vector<WorkspaceBuffer> cpu_workspace(const ModelSpec& spec, const ExecutionLimits& limits,
                                           const ScratchFormula& scratch);

// What cpu_workspace takes for scratch when no ops exist yet (a dry run): gathered rows in bf16 and
// the slots' hidden and output rows in float32.
std::uint64_t default_scratch_bytes(const ModelSpec& spec, int max_rows, std::int64_t max_context);

std::uint64_t total_bytes(const std::vector<WorkspaceBuffer>& buffers);

}  // namespace moeopt
