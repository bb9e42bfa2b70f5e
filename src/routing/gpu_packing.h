// GpuPacking: the slots of one host's GPUs while a placement is being made: filled longest first,
// then improved by exchanges. Invariant: a GPU never holds two copies of an expert; every expert
// given has at least one slot.
#pragma once

#include <span>
#include <vector>

#include "routing/placement.h"

namespace moeopt {

// Their indices by falling weight, equals in their order.
std::vector<std::size_t> heaviest_first(std::span<const double> weights);

// Loads that may come, each [n_experts] shares, with their weights.
struct Scenarios {
  std::vector<std::vector<double>> rows;
  std::vector<double> weights;
};

class GpuPacking {
 public:
  // `experts`: ids to place, at least one copy each, `n_physical` in all (fewer when that many
  // copies would share GPUs). `expected`: shares of all experts by id.
  GpuPacking(std::span<const int> experts, std::span<const double> expected, int n_gpus,
             int slots_per_gpu, int n_physical);

  // Exchanges that lower the weighted mean over the scenarios of the busiest GPU's load.
  void even_out(const Scenarios& scenarios);
  // Exchanges that keep that load (within a 5000th) and bring experts that are chosen together
  // ([n_experts, n_experts] counts) onto one GPU.
  void gather(const Scenarios& scenarios, std::span<const float> together, int n_experts);

  void write(LayerPlacement& placement, int first_gpu) const;

 private:
  struct Exchange {
    std::size_t a, b;  // slots
    double objective;
  };

  void choose_copies(std::span<const int> experts, int n_physical);
  void fill();
  std::size_t gpu_of(std::size_t slot) const { return slot / slots_per_gpu_; }
  bool holds(std::size_t gpu, int expert) const;
  bool allowed(std::size_t a, std::size_t b) const;
  double row(const std::vector<double>& rows, std::size_t slot) const;
  void measure(const Scenarios& scenarios);
  double objective(const Scenarios& scenarios) const;
  double objective_after(const Scenarios& scenarios, std::size_t a, std::size_t b) const;
  std::size_t hottest(const Scenarios& scenarios) const;
  void exchange(const Scenarios& scenarios, std::size_t a, std::size_t b);
  void rank(std::size_t scenario);

  std::size_t n_gpus_, slots_per_gpu_;
  std::vector<double> expected_;
  std::vector<int> copies_;  // by expert id
  std::vector<int> expert_of_slot_;
  // Per scenario: load of each GPU, and the GPUs of the three highest.
  std::vector<std::vector<double>> loads_;
  std::vector<std::vector<std::size_t>> highest_;
};

// Items into packs of at most `room`, heaviest first into the lightest pack that has room.
std::vector<int> pack_longest_first(std::span<const double> weights, int n_packs, int room);

// Exchanges experts between hosts so that those chosen together meet, while no host's load rises
// above the highest or 1% over the mean.
void gather_on_hosts(std::span<const double> rows, std::span<const float> together, int n_hosts,
                     std::vector<int>& host_of);

}  // namespace moeopt
