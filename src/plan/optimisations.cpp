#include "plan/optimisations.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/error.h"

namespace moeopt {
namespace {

using Reason = std::optional<std::string>;

constexpr std::string_view kNotInThisVersion = "not in this version";

int moe_layers(const ModelSpec& spec) {
  return static_cast<int>(std::ranges::count_if(
      spec.layers, [](const LayerSpec& layer) { return layer.moe.has_value(); }));
}

int all_layers(const ModelSpec& spec) {
  return static_cast<int>(spec.layers.size());
}

Reason nothing_against(const OptimisationContext&) {
  return std::nullopt;
}

Reason without_gpu(const OptimisationContext& context) {
  if (context.hardware->kind == HardwareKind::kGpu) return std::nullopt;
  return "needs a GPU; this is a plan for the CPU";
}

Reason without_hopper(const OptimisationContext& context) {
  if (context.hardware->is_hopper()) return std::nullopt;
  if (context.hardware->kind == HardwareKind::kGpu) {
    return fmt::format("needs a Hopper GPU; {} is not one", context.hardware->name);
  }
  return "needs a Hopper GPU; this is a plan for the CPU";
}

Reason without_second_rank(const OptimisationContext& context) {
  if (context.ranks > 1) return std::nullopt;
  return "needs two GPUs or more; the plan has one rank";
}

// FlashDMoE's tiles are 128 wide.
Reason against_flashdmoe(const OptimisationContext& context) {
  if (moe_layers(*context.spec) == 0) return "the model has no MoE layers";
  for (const LayerSpec& layer : context.spec->layers) {
    if (!layer.moe) continue;
    if (context.spec->hidden % 128 != 0 || layer.moe->intermediate % 128 != 0) {
      return fmt::format("hidden size {} and expert size {} must be multiples of 128",
                         context.spec->hidden, layer.moe->intermediate);
    }
  }
  return without_hopper(context);
}

Reason against_fp8(const OptimisationContext& context) {
  if (context.spec->quantisation == Quantisation::kFp8Block128) return std::nullopt;
  return fmt::format("the weights are {}, not fp8 in 128x128 blocks",
                     dtype_name(context.spec->dtype));
}

Reason against_kv_tiering(const OptimisationContext& context) {
  if (context.hardware->kind == HardwareKind::kGpu) return std::nullopt;
  return "on a CPU keys and values are in host memory already";
}

constexpr std::array<Optimisation, 11> kTable = {{
    {"flashdmoe", "gate, dispatch, experts and combine of an MoE layer in one persistent kernel",
     "Replaces the chain of kernels of an MoE layer by one; pays most at small batches, where "
     "launches and idle memory bandwidth dominate.",
     Ask::kPrefer, false, false, against_flashdmoe, moe_layers},
    {"fp8", "8-bit weights with 128x128 block scales, used as stored",
     "Halves the bytes of the weights against bf16. The checkpoint must hold them; nothing is "
     "quantised on the fly.",
     Ask::kPrefer, true, false, against_fp8, all_layers},
    {"cuda-graphs", "replay recorded launches instead of issuing each one",
     "Takes the host's launch time out of small decode steps.", Ask::kPrefer, false, false,
     without_gpu, all_layers},
    {"chunked-prefill", "split long prompts over steps, so that decoding never waits for one",
     "A step computes at most max_num_batched_tokens tokens, decoding sequences first, and no more "
     "prefill than max_step_ms allows while others stream.",
     Ask::kPrefer, true, false, nothing_against, all_layers},
    {"prefix-cache", "keep the keys and values of prompt beginnings and reuse them",
     "Saves the prefill of a shared beginning; nothing for prompts that share none.", Ask::kPrefer,
     true, false, nothing_against, all_layers},
    {"dual-batch-overlap", "compute one half of a batch while the other half communicates",
     "Hides transfers between GPUs; it reads the weights twice, so small batches lose.", Ask::kOff,
     false, false, without_second_rank, moe_layers},
    {"disaggregation", "prefill and decode on different GPUs",
     "Keeps decoding steady under long prompts; it does not raise throughput.", Ask::kOff, false,
     false, without_second_rank, all_layers},
    {"kv-tiering", "move idle keys and values to host memory or disk",
     "Pays when evicted prompts come back; nothing for prompts that never repeat.", Ask::kOff,
     false, false, against_kv_tiering, all_layers},
    {"expert-placement", "place and replicate experts by how often they are used",
     "Evens out the load of the GPUs; nothing on one.", Ask::kOff, false, false,
     without_second_rank, moe_layers},
    {"sparsity-2-4", "experts with two of every four weights zero",
     "Reads fewer bytes; only for checkpoints that were trained so, and quality pays for it.",
     Ask::kOff, false, false, without_hopper, moe_layers},
    {"fp8-kv", "8-bit keys and values", "Halves the bytes of the KV cache against bf16.", Ask::kOff,
     false, false, nothing_against, all_layers},
}};

// Why `optimisation` cannot be had; first what no user can change.
Reason reason_against(const Optimisation& optimisation, const OptimisationContext& context) {
  const bool is_gpu = context.hardware->kind == HardwareKind::kGpu;
  Reason against = optimisation.against(context);
  if (is_gpu ? optimisation.on_gpu : optimisation.on_cpu) return against;
  if (!against) return std::string(kNotInThisVersion);
  return fmt::format("{}; besides, {}", kNotInThisVersion, *against);
}

}  // namespace

std::span<const Optimisation> optimisation_table() {
  return kTable;
}

const Optimisation* find_optimisation(std::string_view name) {
  const auto at = std::ranges::find(kTable, name, &Optimisation::name);
  return at == kTable.end() ? nullptr : &*at;
}

std::string_view optimisation_status_name(OptimisationStatus status) {
  switch (status) {
    case OptimisationStatus::kOff:
      return "off";
    case OptimisationStatus::kDeclined:
      return "declined";
    case OptimisationStatus::kPlanned:
      return "planned";
    case OptimisationStatus::kApplied:
      return "applied";
  }
  return "?";
}

std::vector<OptimisationState> plan_optimisations(const Settings& settings,
                                                  const OptimisationContext& context) {
  MOEOPT_CHECK(settings.optimisations.size() == kTable.size());
  std::vector<OptimisationState> states;
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    const Optimisation& optimisation = kTable[i];
    OptimisationState state;
    state.name = optimisation.name;
    state.asked = settings.optimisations[i].value;
    state.asked_by = settings.optimisations[i].origin;
    if (state.asked != Ask::kOff) {
      const Reason against = reason_against(optimisation, context);
      state.status = against ? OptimisationStatus::kDeclined : OptimisationStatus::kPlanned;
      state.reason = against.value_or("");
      state.layers = against ? 0 : optimisation.layers(*context.spec);
    }
    if (state.asked == Ask::kRequire && state.status == OptimisationStatus::kDeclined) {
      throw Error(ErrorCode::kRequirement,
                  fmt::format("{} is required ({}) and declined: {}", state.name,
                              state.asked_by.text(), state.reason),
                  fmt::format("--enable-{} takes it where it can be had", state.name));
    }
    states.push_back(std::move(state));
  }
  return states;
}

}  // namespace moeopt
