// MemoryPlan: where every byte of a run goes, per rank, before any weight is read. The engine
// allocates from this same object.
// Invariant: for each rank, total_bytes() <= budget_bytes, and the sums of `buffers` of that rank
// by kind equal the rank's own figures.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "model/model_spec.h"
#include "model/weight_class.h"
#include "plan/hardware.h"
#include "plan/kv_layout.h"
#include "plan/optimisations.h"
#include "plan/settings.h"
#include "plan/workspace.h"

namespace moeopt {

enum class BufferKind { kWeight, kKv, kWorkspace, kCommunication };
std::string_view buffer_kind_name(BufferKind kind);

// One allocation, or one part of the mapped checkpoint.
struct PlannedBuffer {
  std::string name;  // "layers.3.expert_up", "kv", "logits"
  BufferKind kind;
  std::optional<WeightClass> weight_class;
  std::uint64_t bytes = 0;
  int rank = 0;
  std::vector<std::string> sources;  // tensors; {expert} stands for every expert the rank holds
  std::string transform;             // "as stored", "rows 1/8 of the heads", "zeroed"
};

struct RankPlan {
  std::array<std::uint64_t, kWeightClasses> weights{};
  std::uint64_t kv_bytes = 0;
  std::uint64_t workspace_bytes = 0;
  std::uint64_t communication_bytes = 0;
  std::uint64_t margin_bytes = 0;  // code, allocator, driver: not ours to allocate

  std::uint64_t weight_bytes() const;
  std::uint64_t total_bytes() const;
};

struct PlanNote {
  enum class Kind { kInfo, kWarning } kind = Kind::kInfo;
  std::string text;
};

struct MemoryPlan {
  Settings settings;
  Hardware hardware;
  int ranks = 1;
  bool estimated = false;  // no backend of this version runs it: the rows are estimates
  KvLayout kv;             // per rank
  ExecutionLimits limits;
  std::uint64_t budget_bytes = 0;  // of one rank: its memory times the asked share
  std::vector<RankPlan> per_rank;
  std::vector<PlannedBuffer> buffers;  // all ranks
  std::uint64_t kv_token_bytes = 0;    // all layers, one rank
  // What would fit with everything else as planned.
  std::int64_t largest_context = 0;  // of one sequence, at most the model's own
  std::int64_t largest_batch = 0;    // sequences at limits.max_model_len
  std::vector<OptimisationState> optimisations;
  std::vector<PlanNote> notes;

  // Error(kInternal) when there is none of that name.
  const PlannedBuffer& buffer(std::string_view name, int rank = 0) const;
};

struct PlanInput {
  const ModelSpec* spec = nullptr;
  const Settings* settings = nullptr;
  const Hardware* hardware = nullptr;
  // Optional: exact bytes of the checkpoint's own tensors instead of the config's dtypes.
  const TensorSource* tensors = nullptr;
  // Optional: what the ops of the CPU backend ask for, instead of default_scratch_bytes.
  ScratchFormula scratch;
  // Rows of one step whose logits are returned, for `eval`; 0: one a sequence.
  int max_logit_rows = 0;
  bool record_routes = false;  // room for each step's expert ids, for a routing log
};

// Error(kDoesNotFit) says what would; Error(kRequirement) when a required optimisation is declined;
// Error(kUsage) when settings contradict the model (a longer context than it has, ...).
MemoryPlan plan_memory(const PlanInput& input);

}  // namespace moeopt
