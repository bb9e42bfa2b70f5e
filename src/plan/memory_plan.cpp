#include "plan/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/strings.h"
#include "plan/fit_advice.h"
#include "plan/footprint.h"
#include "plan/limits.h"
#include "plan/sharding.h"
#include "plan/weight_plan.h"

namespace moeopt {
namespace {

constexpr std::int64_t kShortestAuto = 256;     // tokens; auto does not go below
constexpr std::int64_t kMostSequences = 65536;  // as the setting's range

void note(MemoryPlan& plan, PlanNote::Kind kind, std::string text) {
  plan.notes.push_back({kind, std::move(text)});
}

// How many GPUs the plan spreads over: what was asked, or the largest count below that divides the
// model, with a warning.
int choose_ranks(const PlanInput& input, MemoryPlan& plan) {
  const Setting<int>& asked = input.settings->gpus;
  const Hardware& hardware = *input.hardware;
  if (hardware.kind == HardwareKind::kCpu) {
    if (asked.value > 0) {
      note(plan, PlanNote::Kind::kWarning,
           fmt::format("{} GPUs asked for ({}), and this is a plan for the CPU; --hardware h100x{} "
                       "plans for that many",
                       asked.value, asked.origin.text(), std::min(asked.value, 8)));
    }
    return 1;
  }
  const int wanted = asked.value > 0 ? asked.value : hardware.devices;
  const std::vector<int> counts =
      working_rank_counts(*input.spec, std::min(wanted, hardware.devices));
  const int ranks = counts.back();
  if (ranks == wanted) return ranks;
  const std::string why =
      wanted > hardware.devices
          ? fmt::format("{} has {}", hardware.name, hardware.devices)
          : against_ranks(*input.spec, wanted).value_or("they do not divide the model");
  std::string text = fmt::format("{} GPUs do not work: {}; {} {}, and the plan is for that", wanted,
                                 why, ranks, ranks == 1 ? "works" : "work");
  const std::vector<int> more = working_rank_counts(*input.spec, hardware.devices);
  if (const auto next = std::ranges::find_if(more, [&](int n) { return n > wanted; });
      next != more.end()) {
    text += fmt::format(" ({} would work too)", *next);
  }
  note(plan, PlanNote::Kind::kWarning, std::move(text));
  return ranks;
}

// What was auto shrinks until `asked` fits; Error(kDoesNotFit) when that is not enough.
void fit(const PlanInput& input, const WeightPlan& weights, const Footprint& footprint,
         AskedLimits& asked, MemoryPlan& plan) {
  ExecutionLimits& limits = asked.limits;
  const auto fits = [&] {
    return footprint.needed_bytes(limits, asked.full_sequences) <= plan.budget_bytes;
  };
  if (fits()) return;
  const AskedLimits as_asked = asked;
  if (asked.may_narrow) {
    const std::int64_t slots = footprint.most_slots(limits, asked.full_sequences, asked.logit_rows,
                                                    plan.budget_bytes, limits.max_sequences);
    if (slots > 0) {
      limits.max_sequences = static_cast<int>(slots);
      limits.max_logit_rows = std::max(limits.max_sequences, asked.logit_rows);
      note(plan, PlanNote::Kind::kInfo,
           fmt::format("max_num_seqs: {} of the usual {}, so that the plan fits", slots,
                       as_asked.limits.max_sequences));
      return;
    }
  }
  if (asked.may_shorten) {
    const std::int64_t length =
        footprint.longest(limits, asked.full_sequences, plan.budget_bytes, limits.max_model_len);
    if (length >= std::min(kShortestAuto, limits.max_model_len)) {
      limits.max_model_len = length;
      note(plan, PlanNote::Kind::kInfo,
           fmt::format("max_model_len: {} of the usual {}, so that the plan fits", length,
                       as_asked.limits.max_model_len));
      return;
    }
  }
  throw does_not_fit(input, weights, as_asked, footprint.ranks());
}

// Blocks for every sequence at full length where the memory and kv_cache_tokens allow: all of that
// on a GPU, no more than every sequence needs on a CPU.
void choose_blocks(const Footprint& footprint, const AskedLimits& asked, MemoryPlan& plan) {
  ExecutionLimits& limits = plan.limits;
  const std::int64_t all = std::int64_t{limits.max_sequences} * limits.blocks_per_sequence();
  const std::int64_t most = plan.hardware.kind == HardwareKind::kCpu
                                ? std::min(all, asked.most_kv_blocks)
                                : asked.most_kv_blocks;
  limits.kv_blocks = static_cast<int>(footprint.affordable_blocks(limits, plan.budget_bytes, most));
  MOEOPT_CHECK(limits.kv_blocks >=
               std::int64_t{asked.full_sequences} * limits.blocks_per_sequence());
  if (limits.kv_blocks < all) {
    note(plan, PlanNote::Kind::kInfo,
         fmt::format("the KV blocks hold {} of {} sequences at {} tokens; the others run when they "
                     "are shorter, or wait",
                     limits.kv_blocks / limits.blocks_per_sequence(), limits.max_sequences,
                     limits.max_model_len));
  }
}

void fill_ranks(const WeightPlan& weights, const Footprint& footprint, MemoryPlan& plan) {
  const RankPlan fixed = footprint.fixed(plan.limits);
  for (int rank = 0; rank < plan.ranks; ++rank) {
    RankPlan one = fixed;
    one.kv_bytes =
        footprint.block_bytes(plan.limits) * static_cast<std::uint64_t>(plan.limits.kv_blocks);
    plan.per_rank.push_back(one);
    for (PlannedBuffer& buffer : weights.buffers(plan.ranks, rank)) {
      plan.buffers.push_back(std::move(buffer));
    }
    const auto add = [&](std::string name, BufferKind kind, std::uint64_t bytes) {
      plan.buffers.push_back({std::move(name), kind, std::nullopt, bytes, rank, {}, "zeroed"});
    };
    add("kv", BufferKind::kKv, one.kv_bytes);
    for (WorkspaceBuffer& buffer : footprint.workspace(plan.limits)) {
      add(std::move(buffer.name), BufferKind::kWorkspace, buffer.bytes);
    }
    for (WorkspaceBuffer& buffer : footprint.communication(plan.limits)) {
      add(std::move(buffer.name), BufferKind::kCommunication, buffer.bytes);
    }
  }
}

// The fewest GPUs that hold the same sequences: more of them are for speed alone.
void note_fewer_ranks(const PlanInput& input, const WeightPlan& weights, const AskedLimits& asked,
                      MemoryPlan& plan) {
  for (const int ranks : working_rank_counts(*input.spec, plan.ranks - 1)) {
    const Footprint footprint(*input.spec, weights, plan.hardware, ranks, asked.kv_dtype,
                              input.scratch);
    if (footprint.needed_bytes(plan.limits, asked.full_sequences) > plan.budget_bytes) continue;
    note(plan, PlanNote::Kind::kInfo,
         fmt::format("{} GPU{} would hold the model and {} sequence{} of {} tokens", ranks,
                     ranks == 1 ? "" : "s", asked.full_sequences,
                     asked.full_sequences == 1 ? "" : "s", plan.limits.max_model_len));
    return;
  }
}

void note_circumstances(const PlanInput& input, MemoryPlan& plan) {
  if (plan.estimated) {
    note(plan, PlanNote::Kind::kInfo,
         "estimated: no GPU backend is in this version, its buffers are not measured");
  }
  if (plan.hardware.unused_gpus > 0) {
    note(plan, PlanNote::Kind::kInfo,
         fmt::format("{} GPU{} found and not used: this version runs on the CPU",
                     plan.hardware.unused_gpus, plan.hardware.unused_gpus == 1 ? "" : "s"));
  }
  if (input.spec->not_runnable) {
    note(plan, PlanNote::Kind::kWarning,
         fmt::format("this program plans the model and does not run it: {}",
                     *input.spec->not_runnable));
  }
}

}  // namespace

std::string_view buffer_kind_name(BufferKind kind) {
  switch (kind) {
    case BufferKind::kWeight:
      return "weights";
    case BufferKind::kKv:
      return "KV blocks";
    case BufferKind::kWorkspace:
      return "workspace";
    case BufferKind::kCommunication:
      return "communication";
  }
  return "?";
}

std::uint64_t RankPlan::weight_bytes() const {
  return std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
}

std::uint64_t RankPlan::total_bytes() const {
  return weight_bytes() + kv_bytes + workspace_bytes + communication_bytes + margin_bytes;
}

const PlannedBuffer& MemoryPlan::buffer(std::string_view name, int rank) const {
  const auto at = std::ranges::find_if(buffers, [&](const PlannedBuffer& buffer) {
    return buffer.rank == rank && buffer.name == name;
  });
  if (at == buffers.end()) {
    throw_error(ErrorCode::kInternal, "the plan has no buffer {} on rank {}", name, rank);
  }
  return *at;
}

MemoryPlan plan_memory(const PlanInput& input) {
  MOEOPT_CHECK(input.spec != nullptr);
  MOEOPT_CHECK(input.settings != nullptr);
  MOEOPT_CHECK(input.hardware != nullptr);
  MemoryPlan plan;
  plan.settings = *input.settings;
  plan.hardware = *input.hardware;
  plan.estimated = !has_backend(plan.hardware.kind);
  plan.budget_bytes = budget_of(plan.hardware, plan.settings.gpu_memory_utilization.value);
  plan.ranks = choose_ranks(input, plan);

  AskedLimits asked =
      asked_limits(*input.spec, plan.settings, plan.hardware.kind, input.max_logit_rows);
  asked.limits.record_routes = input.record_routes;
  OptimisationContext context{input.spec, input.hardware, plan.ranks, asked.limits.max_step_tokens,
                              asked.limits.max_model_len};
  plan_optimisations(plan.settings, context);  // a requirement fails before the memory does

  const WeightPlan weights(*input.spec, input.tensors);
  const Footprint footprint(*input.spec, weights, plan.hardware, plan.ranks, asked.kv_dtype,
                            input.scratch);
  fit(input, weights, footprint, asked, plan);
  plan.limits = asked.limits;
  choose_blocks(footprint, asked, plan);
  context.max_model_len = plan.limits.max_model_len;
  plan.optimisations = plan_optimisations(plan.settings, context);

  plan.kv = footprint.kv_layout(plan.limits.block_tokens);
  plan.kv_token_bytes = plan.kv.token_bytes();
  fill_ranks(weights, footprint, plan);
  plan.largest_context =
      footprint.longest(plan.limits, 1, plan.budget_bytes, input.spec->max_position);
  plan.largest_batch = footprint.widest(plan.limits, plan.budget_bytes, kMostSequences);
  note_fewer_ranks(input, weights, asked, plan);
  note_circumstances(input, plan);
  return plan;
}

}  // namespace moeopt
