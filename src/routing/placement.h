// Placement: which expert lies on which GPU, for one layer or all, and how even that makes the
// work. Everything here is arithmetic on counts; nothing touches a GPU. Invariant: in a
// LayerPlacement every expert has at least one slot, and a GPU has exactly `slots_per_gpu` slots,
// of which unused ones hold -1.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace moeopt {

struct PlacementShape {
  int n_experts = 0;
  int n_gpus = 1;
  int n_hosts = 1;    // divides n_gpus; GPU g is on host g / (n_gpus / n_hosts)
  int n_groups = 1;   // of the router: runs of n_experts / n_groups experts; 1: none
  int redundant = 0;  // replicas beyond one copy each

  int slots_per_gpu() const { return (n_experts + redundant + n_gpus - 1) / n_gpus; }
  int gpus_per_host() const { return n_gpus / n_hosts; }
};

// Error(kUsage) naming the field when there is no such placement.
void check_shape(const PlacementShape& shape);

struct LayerPlacement {
  int slots_per_gpu = 0;
  std::vector<int> expert_of_slot;  // [n_gpus * slots_per_gpu], -1: empty

  // Copies of each expert.
  std::vector<int> replicas(int n_experts) const;
  // [n_gpus][n_experts]: local slot of the expert on that GPU, -1 when it is not there.
  std::vector<int> expert_map(int gpu, int n_experts) const;
};

// Consecutive experts on consecutive GPUs, redundant slots left empty: what engines do untold.
LayerPlacement contiguous_placement(const PlacementShape& shape);

// Rows per GPU when each expert's rows are shared evenly by its copies.
std::vector<double> gpu_loads(const LayerPlacement& placement, std::span<const double> rows,
                              int n_gpus);
// The busiest GPU over the mean; 1 is even. 1 when there are no rows.
double max_over_mean(std::span<const double> loads);

// Over tokens [n][top_k] (kNoExpert ends a row): a token is sent once to each GPU that holds one of
// its experts, the copy taken in turn.
struct Traffic {
  double gpus_per_token = 0;   // distinct, of all
  double hosts_per_token = 0;  // distinct
};
Traffic traffic_of(const LayerPlacement& placement, const PlacementShape& shape,
                   std::span<const std::uint16_t> tokens, int top_k);

}  // namespace moeopt
