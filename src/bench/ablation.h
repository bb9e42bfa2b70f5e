// What each optimisation gains, measured: the same workload against the same program with all of
// them on, each one off, and all off, every configuration in a server of its own, the
// configurations alternating and the whole repeated. Invariant: a gain is shown only when the
// optimisation was `applied` and counted launches in every run with it, was `off` in every run
// without it, and no request failed in either.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/measurement.h"

namespace moeopt::bench {

struct AblationPlan {
  std::vector<std::string> command;  // program, verb, model, flags: all but what is added here
  std::vector<std::string> optimisations;  // every name with --enable-NAME and --disable-NAME
  int rounds = 3;
  std::chrono::milliseconds ready_timeout{300'000};
  std::filesystem::path log_folder;  // a file a server
  MeasurementPlan measurement;       // its url is set here
  std::function<void(const std::string&)> on_status;
};

// "all on", "chunked-prefill off", "all off".
struct Configuration {
  std::string name;
  std::vector<std::string> off;  // optimisations that it disables
};

struct AblationRun {
  std::string configuration;
  int round = 0;
  Summary summary;
  std::vector<ServerOptimisation> states;  // launches of the run
  std::string failure;                     // why there was no run: it says nothing then
};

// Factors over the rounds; above 1 the optimisation helps.
struct GainSpread {
  double mean = 0;  // geometric
  double low = 0, high = 0;
};

struct Gain {
  std::string name;    // of the optimisation, or "all of them"
  std::string reason;  // why there is no figure; empty when there is one
  // On against off: throughput gained, latencies saved.
  GainSpread output_tokens_per_s, ttft_p50, inter_token_p99;
};

struct Ablation {
  std::string model, workload, digest;
  int rounds = 0;
  std::vector<AblationRun> runs;
  std::vector<Gain> gains;  // one an optimisation, and one for all together
};

// The configurations for the optimisations that are applied when all are asked for. With a single
// one its absence is "all off" as well.
std::vector<Configuration> configurations_of(std::span<const std::string> applied);
// Forwards in even rounds, backwards in odd ones: a drift of the machine falls on all alike.
std::vector<std::size_t> order_in_round(std::size_t configurations, int round);
// The gains that the runs show; `probe` has the states with everything asked for.
std::vector<Gain> gains_of(std::span<const AblationRun> runs,
                           std::span<const ServerOptimisation> probe);

Ablation ablate(const AblationPlan& plan);

OrderedJson ablation_json(const Ablation& ablation);
std::string ablation_text(const Ablation& ablation);

}  // namespace moeopt::bench
