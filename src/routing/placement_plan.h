// From a log to a placement of all layers: fitted on the log's first half, judged on the second,
// beside the placements it is compared with; and the plan file that a multi-GPU backend loads.
// Invariant: no figure called held-out saw a token that its placement was fitted to.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "routing/log_statistics.h"
#include "routing/placement.h"
#include "routing/placement_simulator.h"

namespace moeopt {

struct PlacementScore {
  double mean_max_over_mean = 0;   // over layers
  double worst_max_over_mean = 0;  // layer
  double gpus_per_token = 0;       // mean over layers
  double hosts_per_token = 0;
  std::optional<SimulatedTime> simulated;  // of one layer, the mean
};

struct MethodResult {
  std::string name;  // "contiguous", "greedy", "eplb", "balanced"
  std::string note;  // for people; may be empty
  std::vector<LayerPlacement> layers;
  PlacementScore fitted, held_out;
};

struct SimulationInput {
  SimulatedLayer layer;
  SimulatedMachine machine;
  int batch = 0;  // tokens of a step, all GPUs together
};

// The options read_statistics needs for it.
StatisticsOptions placement_statistics_options();

// `statistics` as read with those options. Error(kUsage) for a shape that cannot be, or a log with
// fewer than two tokens. "eplb" is left out where that algorithm has no answer.
std::vector<MethodResult> compare_placements(const LogStatistics& statistics,
                                             const PlacementShape& shape,
                                             const std::optional<SimulationInput>& simulation);

inline constexpr std::string_view kPlacementSchema = "moeopt-placement/1";
// The plan file: docs/SCHEMA.md.
std::string plan_file_json(const RoutingHeader& header, const PlacementShape& shape,
                           const MethodResult& chosen, const std::vector<MethodResult>& all);

}  // namespace moeopt
