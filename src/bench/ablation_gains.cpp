// The arithmetic of an ablation: which runs there are to be, and what those there were have shown.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "bench/ablation.h"
#include "bench/statistics.h"

namespace moeopt::bench {
namespace {

constexpr std::string_view kAllOn = "all on";
constexpr std::string_view kAllOff = "all off";

std::string without(std::string_view name) {
  return fmt::format("{} off", name);
}

// The run of a configuration in a round; nullptr when there was none.
const AblationRun* find_run(std::span<const AblationRun> runs, std::string_view configuration,
                            int round) {
  const auto at = std::ranges::find_if(runs, [&](const AblationRun& run) {
    return run.configuration == configuration && run.round == round;
  });
  return at == runs.end() ? nullptr : &*at;
}

const ServerOptimisation* find_state(const AblationRun& run, std::string_view name) {
  const auto at = std::ranges::find(run.states, name, &ServerOptimisation::name);
  return at == run.states.end() ? nullptr : &*at;
}

// Why the pair of runs says nothing of `name`; empty when it does.
std::string reason_against(const AblationRun& on, const AblationRun& off, std::string_view name) {
  const ServerOptimisation* in_on = find_state(on, name);
  const ServerOptimisation* in_off = find_state(off, name);
  if (in_on == nullptr || in_on->state != "applied") {
    return fmt::format("NOT APPLIED: {} in round {} with everything on",
                       in_on == nullptr ? "not reported" : in_on->state, on.round + 1);
  }
  if (in_on->launches <= 0) return "NOT APPLIED: this workload gave it nothing to do";
  if (in_off == nullptr || in_off->state != "off" || in_off->launches != 0) {
    return fmt::format("no figure: it was not off in round {} without it", off.round + 1);
  }
  return {};
}

std::string failure_in(const AblationRun& run) {
  if (!run.failure.empty()) {
    return fmt::format("no figure: {}, round {}: {}", run.configuration, run.round + 1,
                       run.failure);
  }
  if (run.summary.requests > 0 && run.summary.answered == run.summary.requests) return {};
  return fmt::format("no figure: {} of {} requests failed in round {}, {}",
                     run.summary.requests - run.summary.answered, run.summary.requests,
                     run.round + 1, run.configuration);
}

GainSpread spread_of_factors(const std::vector<double>& factors) {
  if (factors.empty()) return {};
  return {geometric_mean(factors), *std::ranges::min_element(factors),
          *std::ranges::max_element(factors)};
}

// The gain of "all on" over `off`, round by round; `names` are what must be applied in the one and
// off in the other.
Gain gain_over(std::span<const AblationRun> runs, std::string_view off_name,
               std::span<const std::string> names, std::string title) {
  Gain gain;
  gain.name = std::move(title);
  std::vector<double> speed, ttft, gap;
  for (int round = 0;; ++round) {
    const AblationRun* on = find_run(runs, kAllOn, round);
    const AblationRun* off = find_run(runs, off_name, round);
    if (on == nullptr || off == nullptr) break;
    for (const AblationRun* run : {on, off}) {
      if (gain.reason.empty()) gain.reason = failure_in(*run);
    }
    for (const std::string& name : names) {
      if (gain.reason.empty()) gain.reason = reason_against(*on, *off, name);
    }
    if (!gain.reason.empty()) return gain;
    const auto add = [](std::vector<double>& to, double better, double worse) {
      if (better > 0 && worse > 0) to.push_back(worse / better);
    };
    add(speed, off->summary.output_tokens_per_s, on->summary.output_tokens_per_s);
    add(ttft, on->summary.ttft_ms.p50, off->summary.ttft_ms.p50);
    add(gap, on->summary.inter_token_ms.p99, off->summary.inter_token_ms.p99);
  }
  if (speed.empty()) {
    gain.reason = "no figure: not measured";
    return gain;
  }
  gain.output_tokens_per_s = spread_of_factors(speed);
  gain.ttft_p50 = spread_of_factors(ttft);
  gain.inter_token_p99 = spread_of_factors(gap);
  return gain;
}

std::string factor_text(const GainSpread& spread) {
  if (spread.mean <= 0) return "-";
  return fmt::format("{:.2f}x ({:.2f}..{:.2f})", spread.mean, spread.low, spread.high);
}

OrderedJson factor_json(const GainSpread& spread) {
  if (spread.mean <= 0) return nullptr;
  return {{"mean", spread.mean}, {"low", spread.low}, {"high", spread.high}};
}

}  // namespace

std::vector<Configuration> configurations_of(std::span<const std::string> applied) {
  std::vector<Configuration> all = {{std::string(kAllOn), {}}};
  for (const std::string& name : applied) all.push_back({without(name), {name}});
  if (applied.size() > 1) {
    all.push_back({std::string(kAllOff), {applied.begin(), applied.end()}});
  }
  return all;
}

std::vector<std::size_t> order_in_round(std::size_t configurations, int round) {
  std::vector<std::size_t> order(configurations);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (round % 2 == 1) std::ranges::reverse(order);
  return order;
}

std::vector<Gain> gains_of(std::span<const AblationRun> runs,
                           std::span<const ServerOptimisation> probe) {
  std::vector<Gain> gains;
  std::vector<std::string> measured;
  for (const ServerOptimisation& state : probe) {
    if (state.state != "applied") {
      const std::string& why = state.reason.empty() ? state.state : state.reason;
      gains.push_back({state.name, fmt::format("NOT APPLIED: {}", why), {}, {}, {}});
      continue;
    }
    const std::vector<std::string> name = {state.name};
    gains.push_back(gain_over(runs, without(state.name), name, state.name));
    if (gains.back().reason.empty()) measured.push_back(state.name);
  }
  const auto applied = std::ranges::count(probe, "applied", &ServerOptimisation::state);
  if (applied > 1 && !measured.empty()) {
    gains.push_back(gain_over(runs, kAllOff, measured, "all of them"));
  }
  return gains;
}

std::string ablation_text(const Ablation& ablation) {
  std::string text =
      fmt::format("{}: {}\n{} rounds\n\n", ablation.model, ablation.workload, ablation.rounds);
  if (!ablation.runs.empty()) {
    text += fmt::format("{:<24} {:>6} {:>16} {:>16} {:>22}\n", "configuration", "round",
                        "output tokens/s", "first token p50", "between tokens p99, ms");
    for (const AblationRun& run : ablation.runs) {
      if (!run.failure.empty()) {
        text += fmt::format("{:<24} {:>6} {}\n", run.configuration, run.round + 1, run.failure);
        continue;
      }
      text += fmt::format("{:<24} {:>6} {:>16.1f} {:>16.2f} {:>22.2f}\n", run.configuration,
                          run.round + 1, run.summary.output_tokens_per_s, run.summary.ttft_ms.p50,
                          run.summary.inter_token_ms.p99);
    }
    text += "\n";
  }
  text += fmt::format("{:<24} {:<22} {:<22} {:<22}\n", "gain: on against off", "output tokens/s",
                      "first token, p50", "between tokens, p99");
  for (const Gain& gain : ablation.gains) {
    if (!gain.reason.empty()) {
      text += fmt::format("{:<24} {}\n", gain.name, gain.reason);
      continue;
    }
    text += fmt::format("{:<24} {:<22} {:<22} {:<22}\n", gain.name,
                        factor_text(gain.output_tokens_per_s), factor_text(gain.ttft_p50),
                        factor_text(gain.inter_token_p99));
  }
  return text +
         "\nAbove 1 it helps; in brackets the lowest and the highest of the rounds. A range that\n"
         "holds 1 shows no gain.\n";
}

OrderedJson ablation_json(const Ablation& ablation) {
  OrderedJson runs = OrderedJson::array(), gains = OrderedJson::array();
  for (const AblationRun& run : ablation.runs) {
    OrderedJson states = OrderedJson::array();
    for (const ServerOptimisation& state : run.states) {
      states.push_back({{"name", state.name},
                        {"state", state.state},
                        {"reason", state.reason},
                        {"launches_in_run", state.launches}});
    }
    runs.push_back({{"configuration", run.configuration},
                    {"round", run.round},
                    {"failure", run.failure},
                    {"summary", summary_json(run.summary, {})},
                    {"optimisations", std::move(states)}});
  }
  for (const Gain& gain : ablation.gains) {
    OrderedJson row = {{"name", gain.name}, {"reason", gain.reason}};
    if (gain.reason.empty()) {
      row["output_tokens_per_s"] = factor_json(gain.output_tokens_per_s);
      row["ttft_p50"] = factor_json(gain.ttft_p50);
      row["inter_token_p99"] = factor_json(gain.inter_token_p99);
    }
    gains.push_back(std::move(row));
  }
  return {{"schema", "moeopt-ablation/1"}, {"model", ablation.model},
          {"workload", ablation.workload}, {"workload_digest", ablation.digest},
          {"rounds", ablation.rounds},     {"gains", std::move(gains)},
          {"runs", std::move(runs)}};
}

}  // namespace moeopt::bench
