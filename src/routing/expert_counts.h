// ExpertCounts: how many rows each expert of each layer has worked on.
// Invariant: a sum over what the forward pass counted, never an estimate; layers without experts
// have no counts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moeopt {

class ExpertCounts {
 public:
  // experts_per_layer[l] is 0 for a dense layer.
  explicit ExpertCounts(std::vector<int> experts_per_layer);

  int n_layers() const { return static_cast<int>(experts_per_layer_.size()); }
  int n_experts(int layer) const { return experts_per_layer_[static_cast<std::size_t>(layer)]; }
  int max_experts() const { return max_experts_; }

  // Adds one step's counts, [n_layers, max_experts].
  void add(std::span<const std::uint32_t> step);
  void reset();
  // What was counted since `before`, an earlier copy of this.
  ExpertCounts since(const ExpertCounts& before) const;

  std::span<const std::uint64_t> layer(int layer) const;
  std::uint64_t total() const;

  // Rows of the busiest expert over the mean of the layer; 1 is even. 0 when nothing was counted.
  double imbalance(int layer) const;
  // Experts of the layer that had at least one row.
  int n_used(int layer) const;

 private:
  std::vector<int> experts_per_layer_;
  int max_experts_ = 0;
  std::vector<std::uint64_t> rows_;  // [n_layers, max_experts]
};

}  // namespace moeopt
