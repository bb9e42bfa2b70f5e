#include "routing/eplb.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "routing/gpu_packing.h"

namespace moeopt {
namespace {

// Items into packs of equally many: each, heaviest first, to the lightest pack with room.
std::vector<int> pack_evenly(std::span<const double> weights, int n_packs) {
  const std::size_t room = weights.size() / static_cast<std::size_t>(n_packs);
  std::vector<double> load(static_cast<std::size_t>(n_packs), 0.0);
  std::vector<std::size_t> held(load.size(), 0);
  std::vector<int> pack_of(weights.size(), 0);
  for (const std::size_t item : heaviest_first(weights)) {
    std::size_t best = load.size();
    for (std::size_t pack = 0; pack < load.size(); ++pack) {
      if (held[pack] < room && (best == load.size() || load[pack] < load[best])) best = pack;
    }
    pack_of[item] = static_cast<int>(best);
    load[best] += weights[item];
    held[best] += 1;
  }
  return pack_of;
}

// Each further copy goes to the expert whose copies carry most.
std::vector<int> copies_of(std::span<const double> weights, int n_physical) {
  std::vector<int> copies(weights.size(), 1);
  for (int extra = n_physical - static_cast<int>(weights.size()); extra > 0; --extra) {
    std::size_t most = 0;
    for (std::size_t e = 1; e < weights.size(); ++e) {
      if (weights[e] / copies[e] > weights[most] / copies[most]) most = e;
    }
    copies[most] += 1;
  }
  return copies;
}

// Experts (global ids) with their copies onto `n_gpus` GPUs from `first_gpu` on.
void place(std::span<const int> experts, std::span<const double> rows, int n_physical,
           int first_gpu, int n_gpus, LayerPlacement& placement) {
  std::vector<double> weights;
  for (const int expert : experts) weights.push_back(rows[static_cast<std::size_t>(expert)]);
  const std::vector<int> copies = copies_of(weights, n_physical);
  std::vector<int> item_expert;
  std::vector<double> item_weight;
  for (std::size_t e = 0; e < experts.size(); ++e) {
    for (int copy = 0; copy < copies[e]; ++copy) {
      item_expert.push_back(experts[e]);
      item_weight.push_back(weights[e] / copies[e]);
    }
  }
  const std::vector<int> gpu_of = pack_evenly(item_weight, n_gpus);
  std::vector<int> used(static_cast<std::size_t>(n_gpus), 0);
  for (std::size_t item = 0; item < gpu_of.size(); ++item) {
    const int slot = (first_gpu + gpu_of[item]) * placement.slots_per_gpu +
                     used[static_cast<std::size_t>(gpu_of[item])]++;
    placement.expert_of_slot[static_cast<std::size_t>(slot)] = item_expert[item];
  }
}

}  // namespace

std::optional<LayerPlacement> eplb_placement(const PlacementShape& shape,
                                             std::span<const double> rows) {
  const int n_physical = shape.n_experts + shape.redundant;
  if (n_physical % shape.n_gpus != 0) return std::nullopt;
  LayerPlacement placement;
  placement.slots_per_gpu = shape.slots_per_gpu();
  placement.expert_of_slot.assign(static_cast<std::size_t>(n_physical), -1);
  std::vector<int> all(static_cast<std::size_t>(shape.n_experts));
  std::iota(all.begin(), all.end(), 0);
  if (shape.n_hosts == 1 || shape.n_groups % shape.n_hosts != 0) {
    place(all, rows, n_physical, 0, shape.n_gpus, placement);
    return placement;
  }
  const auto group_experts = static_cast<std::size_t>(shape.n_experts / shape.n_groups);
  std::vector<double> group_rows(static_cast<std::size_t>(shape.n_groups), 0.0);
  for (std::size_t e = 0; e < rows.size(); ++e) group_rows[e / group_experts] += rows[e];
  const std::vector<int> host_of = pack_evenly(group_rows, shape.n_hosts);
  for (int host = 0; host < shape.n_hosts; ++host) {
    std::vector<int> mine;
    for (const int expert : all) {
      if (host_of[static_cast<std::size_t>(expert) / group_experts] == host) mine.push_back(expert);
    }
    place(mine, rows, n_physical / shape.n_hosts, host * shape.gpus_per_host(),
          shape.gpus_per_host(), placement);
  }
  return placement;
}

}  // namespace moeopt
