#include "plan/footprint.h"

#include <algorithm>

#include "plan/gpu_estimate.h"
#include "plan/sharding.h"

namespace moeopt {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
// Code, libraries, tokenizer and what the allocator keeps.
constexpr std::uint64_t kCpuMargin = 64 * kMiB;
// The driver's context, cuBLASLt's workspace, NCCL's own buffers, fragmentation.
constexpr std::uint64_t kGpuMargin = 1024 * kMiB;

// The largest x in [1, most] for which `fits`, or 0; `fits` is true up to some x and false above.
template <typename Fits>
std::int64_t bisect(std::int64_t most, const Fits& fits) {
  std::int64_t low = 0;
  while (low < most) {
    const std::int64_t middle = low + (most - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      most = middle - 1;
    }
  }
  return low;
}

}  // namespace

std::uint64_t budget_of(const Hardware& hardware, double share) {
  return static_cast<std::uint64_t>(static_cast<double>(hardware.memory_bytes) * share);
}

Footprint::Footprint(const ModelSpec& spec, const WeightPlan& weights, const Hardware& hardware,
                     int ranks, DType kv_dtype, const ScratchFormula& scratch)
    : spec_(&spec), hardware_(&hardware), ranks_(ranks), kv_dtype_(kv_dtype), scratch_(&scratch) {
  weights_.weights = weights.bytes_by_class(ranks);
}

KvLayout Footprint::kv_layout(int block_tokens) const {
  KvLayout layout = kv_layout_of(*spec_, kv_dtype_, block_tokens);
  const AttentionSpec& attention = spec_->layers.front().attention;
  if (attention.kind == AttentionKind::kGqa) {
    // K and V go with their heads; MLA's latent serves all heads and lies on each rank.
    const int heads = kv_heads_per_rank(attention, ranks_);
    for (KvPlane& plane : layout.planes) {
      plane.elements = plane.elements / attention.n_kv_heads * heads;
    }
  }
  return layout;
}

std::vector<WorkspaceBuffer> Footprint::workspace(const ExecutionLimits& limits) const {
  if (hardware_->kind == HardwareKind::kCpu) return cpu_workspace(*spec_, limits, *scratch_);
  return gpu_workspace(*spec_, limits);
}

std::vector<WorkspaceBuffer> Footprint::communication(const ExecutionLimits& limits) const {
  if (ranks_ == 1) return {};
  return gpu_communication(*spec_, limits);
}

RankPlan Footprint::fixed(const ExecutionLimits& limits) const {
  RankPlan plan = weights_;
  plan.workspace_bytes = total_bytes(workspace(limits));
  plan.communication_bytes = total_bytes(communication(limits));
  plan.margin_bytes = hardware_->kind == HardwareKind::kCpu ? kCpuMargin : kGpuMargin;
  return plan;
}

std::uint64_t Footprint::block_bytes(const ExecutionLimits& limits) const {
  const KvLayout layout = kv_layout(limits.block_tokens);
  return layout.block_bytes() * static_cast<std::uint64_t>(layout.n_layers);
}

std::uint64_t Footprint::needed_bytes(const ExecutionLimits& limits, std::int64_t sequences) const {
  const std::uint64_t blocks = static_cast<std::uint64_t>(sequences) *
                               static_cast<std::uint64_t>(limits.blocks_per_sequence());
  return fixed(limits).total_bytes() + blocks * block_bytes(limits);
}

std::int64_t Footprint::affordable_blocks(const ExecutionLimits& limits, std::uint64_t budget_bytes,
                                          std::int64_t most) const {
  const std::uint64_t fixed_bytes = fixed(limits).total_bytes();
  if (fixed_bytes >= budget_bytes) return 0;
  const std::uint64_t blocks = (budget_bytes - fixed_bytes) / block_bytes(limits);
  return static_cast<std::int64_t>(std::min(blocks, static_cast<std::uint64_t>(most)));
}

std::int64_t Footprint::longest(ExecutionLimits limits, std::int64_t sequences,
                                std::uint64_t budget_bytes, std::int64_t most) const {
  return bisect(most, [&](std::int64_t length) {
    limits.max_model_len = length;
    return needed_bytes(limits, sequences) <= budget_bytes;
  });
}

std::int64_t Footprint::widest(ExecutionLimits limits, std::uint64_t budget_bytes,
                               std::int64_t most) const {
  const int step_tokens = limits.max_step_tokens;
  const int logit_rows = limits.max_logit_rows;
  return bisect(most, [&](std::int64_t sequences) {
    limits.max_sequences = static_cast<int>(sequences);
    limits.max_step_tokens = std::max(step_tokens, limits.max_sequences);
    limits.max_logit_rows = std::max(logit_rows, limits.max_sequences);
    return needed_bytes(limits, sequences) <= budget_bytes;
  });
}

std::int64_t Footprint::most_slots(ExecutionLimits limits, std::int64_t sequences, int logit_rows,
                                   std::uint64_t budget_bytes, std::int64_t most) const {
  return bisect(most, [&](std::int64_t slots) {
    limits.max_sequences = static_cast<int>(slots);
    limits.max_logit_rows = std::max(limits.max_sequences, logit_rows);
    return needed_bytes(limits, sequences) <= budget_bytes;
  });
}

std::int64_t Footprint::largest_step(ExecutionLimits limits, std::int64_t sequences,
                                     std::uint64_t budget_bytes, std::int64_t most) const {
  const int logit_rows = limits.max_logit_rows;
  return bisect(most, [&](std::int64_t tokens) {
    limits.max_step_tokens = static_cast<int>(tokens);
    limits.max_logit_rows = std::min(logit_rows, limits.max_step_tokens);
    return needed_bytes(limits, sequences) <= budget_bytes;
  });
}

}  // namespace moeopt
