#include "plan/fit_advice.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <vector>

#include "base/strings.h"
#include "plan/sharding.h"

namespace moeopt {
namespace {

constexpr double kMostShare = 0.97;  // of a device's memory that is worth suggesting

struct Situation {
  const PlanInput& input;
  const AskedLimits& asked;
  std::uint64_t budget_bytes;

  double share() const { return input.settings->gpu_memory_utilization.value; }
};

bool fits(const Footprint& footprint, const AskedLimits& asked, std::uint64_t budget_bytes) {
  return footprint.needed_bytes(asked.limits, asked.full_sequences) <= budget_bytes;
}

void suggest_less_work(const Footprint& footprint, const Situation& s,
                       std::vector<std::string>& suggestions) {
  const ExecutionLimits& limits = s.asked.limits;
  const auto length =
      footprint.longest(limits, s.asked.full_sequences, s.budget_bytes, limits.max_model_len);
  if (length > 0) suggestions.push_back(fmt::format("fewer tokens: --max-model-len {}", length));
  if (s.asked.full_sequences > 1) {
    const auto batch = footprint.widest(limits, s.budget_bytes, s.asked.full_sequences);
    if (batch > 0) suggestions.push_back(fmt::format("a smaller batch: --batch-size {}", batch));
  }
  const auto step = footprint.largest_step(limits, s.asked.full_sequences, s.budget_bytes,
                                           limits.max_step_tokens);
  if (step >= limits.max_sequences) {
    suggestions.push_back(fmt::format("smaller steps: --max-num-batched-tokens {}", step));
  }
}

void suggest_larger_share(const Footprint& footprint, const Situation& s,
                          std::vector<std::string>& suggestions) {
  const auto needed =
      static_cast<double>(footprint.needed_bytes(s.asked.limits, s.asked.full_sequences));
  const auto memory = static_cast<double>(s.input.hardware->memory_bytes);
  if (memory <= 0) return;
  const double share = std::ceil(needed / memory * 100) / 100;
  if (share <= kMostShare) {
    suggestions.push_back(
        fmt::format("a larger share of the memory: --gpu-memory-utilization {:.2f}", share));
  }
}

void suggest_fp8(const Situation& s, int ranks, std::vector<std::string>& suggestions) {
  if (s.input.spec->quantisation != Quantisation::kNone) return;
  ModelSpec fp8 = *s.input.spec;
  fp8.quantisation = Quantisation::kFp8Block128;
  if (against_ranks(fp8, ranks)) return;
  const WeightPlan weights(fp8, nullptr);
  const Footprint footprint(fp8, weights, *s.input.hardware, ranks, s.asked.kv_dtype,
                            s.input.scratch);
  if (!fits(footprint, s.asked, s.budget_bytes)) return;
  suggestions.push_back(fmt::format("fp8: a checkpoint of it in fp8 blocks has {} of weights",
                                    format_bytes(weights.bytes(ranks))));
}

// The fewest GPUs of `hardware`'s kind, more than `above`, that hold the model.
std::optional<int> fewest_gpus(const Situation& s, const WeightPlan& weights,
                               const Hardware& hardware, int above) {
  const std::uint64_t budget = budget_of(hardware, s.share());
  for (const int ranks : working_rank_counts(*s.input.spec, hardware.devices)) {
    if (ranks <= above) continue;
    const Footprint footprint(*s.input.spec, weights, hardware, ranks, s.asked.kv_dtype, {});
    if (fits(footprint, s.asked, budget)) return ranks;
  }
  return std::nullopt;
}

void suggest_more_gpus(const Situation& s, const WeightPlan& weights, int ranks,
                       std::vector<std::string>& suggestions) {
  const bool on_gpu = s.input.hardware->kind == HardwareKind::kGpu;
  std::vector<std::string> choices;
  for (const Hardware& host : larger_hardware()) {
    const std::string model = host.name.substr(0, host.name.find('x'));
    const bool same = on_gpu && s.input.hardware->name.starts_with(model);
    if (const auto count = fewest_gpus(s, weights, host, same ? ranks : 0)) {
      choices.push_back(fmt::format("{}x{}", model, *count));
    }
  }
  if (choices.empty()) return;
  suggestions.push_back(fmt::format("{}: --hardware {}", on_gpu ? "more or larger GPUs" : "GPUs",
                                    fmt::join(choices, " or ")));
}

}  // namespace

Error does_not_fit(const PlanInput& input, const WeightPlan& weights, const AskedLimits& asked,
                   int ranks) {
  const Hardware& hardware = *input.hardware;
  const Situation s{input, asked,
                    budget_of(hardware, input.settings->gpu_memory_utilization.value)};
  const Footprint footprint(*input.spec, weights, hardware, ranks, asked.kv_dtype, input.scratch);
  const RankPlan fixed = footprint.fixed(asked.limits);
  const std::uint64_t needed = footprint.needed_bytes(asked.limits, asked.full_sequences);

  std::string parts =
      fmt::format("weights {}, KV of {} x {} tokens {}, workspace {}, margin {}",
                  format_bytes(fixed.weight_bytes()), asked.full_sequences,
                  asked.limits.max_model_len, format_bytes(needed - fixed.total_bytes()),
                  format_bytes(fixed.workspace_bytes), format_bytes(fixed.margin_bytes));
  if (ranks > 1) {
    parts += fmt::format(", communication {}", format_bytes(fixed.communication_bytes));
  }

  std::vector<std::string> suggestions;
  suggest_less_work(footprint, s, suggestions);
  suggest_larger_share(footprint, s, suggestions);
  suggest_fp8(s, ranks, suggestions);
  suggest_more_gpus(s, weights, ranks, suggestions);
  return {ErrorCode::kDoesNotFit,
          fmt::format("the plan needs {}{} and has {} ({:.0f}% of {}, {}): {}",
                      format_bytes(needed), ranks > 1 ? " a GPU" : "", format_bytes(s.budget_bytes),
                      100 * s.share(), format_bytes(hardware.memory_bytes), hardware.label, parts),
          suggestions.empty()
              ? std::string("nothing smaller fits on one host of the GPUs this program knows")
              : fmt::format("what would fit, each alone: {}", fmt::join(suggestions, "; "))};
}

}  // namespace moeopt
