#include "routing/placement_simulator.h"

#include <algorithm>
#include <vector>

#include "routing/routing_log.h"

namespace moeopt {
namespace {

struct BatchLoad {
  std::vector<double> rows, sent, received;  // of each GPU
  std::vector<char> active;                  // of each slot
};

SimulatedTime time_of(const BatchLoad& load, const LayerPlacement& placement,
                      const SimulatedLayer& layer, const SimulatedMachine& machine) {
  const double parameters = 3.0 * layer.hidden * layer.intermediate;
  SimulatedTime time;
  const auto slots = static_cast<std::size_t>(placement.slots_per_gpu);
  for (std::size_t gpu = 0; gpu < load.rows.size(); ++gpu) {
    const auto first = load.active.begin() + static_cast<std::ptrdiff_t>(gpu * slots);
    const auto active = std::count(first, first + placement.slots_per_gpu, 1);
    const double weights_us = static_cast<double>(active) * parameters * layer.weight_bytes /
                              machine.memory_bytes_per_s * 1e6;
    const double products_us = load.rows[gpu] * 2 * parameters / machine.flops * 1e6;
    time.expert_us = std::max(time.expert_us, std::max(weights_us, products_us));
    const double tokens = std::max(load.sent[gpu], load.received[gpu]);
    const double link_us =
        tokens * layer.hidden * (layer.dispatch_bytes + 2.0) / machine.link_bytes_per_s * 1e6;
    time.link_us = std::max(time.link_us, link_us);
  }
  if (load.rows.size() > 1) time.link_us += 2 * machine.round_us;
  return time;
}

}  // namespace

SimulatedTime simulate_layer(const LayerPlacement& placement, const PlacementShape& shape,
                             std::span<const std::uint16_t> tokens, int top_k, int batch,
                             const SimulatedLayer& layer, const SimulatedMachine& machine) {
  std::vector<std::vector<std::size_t>> slots_of(static_cast<std::size_t>(shape.n_experts));
  for (std::size_t slot = 0; slot < placement.expert_of_slot.size(); ++slot) {
    const int expert = placement.expert_of_slot[slot];
    if (expert >= 0) slots_of[static_cast<std::size_t>(expert)].push_back(slot);
  }
  const auto n_gpus = static_cast<std::size_t>(shape.n_gpus);
  const auto width = static_cast<std::size_t>(top_k);
  const auto batch_tokens = static_cast<std::size_t>(batch);
  std::vector<std::size_t> turn(slots_of.size(), 0);
  SimulatedTime sum;
  std::size_t n_batches = 0;
  for (std::size_t begin = 0; begin + batch_tokens * width <= tokens.size();
       begin += batch_tokens * width, ++n_batches) {
    BatchLoad load{std::vector<double>(n_gpus, 0.0), std::vector<double>(n_gpus, 0.0),
                   std::vector<double>(n_gpus, 0.0),
                   std::vector<char>(placement.expert_of_slot.size(), 0)};
    std::vector<std::size_t> reached(n_gpus, 0);  // by token number, from 1
    for (std::size_t token = 0; token < batch_tokens; ++token) {
      const std::size_t home = token % n_gpus;
      for (const std::uint16_t expert : tokens.subspan(begin + token * width, width)) {
        if (expert == kNoExpert) break;
        const auto& slots = slots_of[expert];
        const std::size_t slot = slots[turn[expert]++ % slots.size()];
        const std::size_t gpu = slot / static_cast<std::size_t>(placement.slots_per_gpu);
        load.active[slot] = 1;
        load.rows[gpu] += 1;
        if (gpu == home || reached[gpu] == token + 1) continue;
        reached[gpu] = token + 1;
        load.sent[home] += 1;
        load.received[gpu] += 1;
      }
    }
    const SimulatedTime time = time_of(load, placement, layer, machine);
    sum.expert_us += time.expert_us;
    sum.link_us += time.link_us;
  }
  if (n_batches == 0) return {};
  const auto n = static_cast<double>(n_batches);
  return {sum.expert_us / n, sum.link_us / n};
}

}  // namespace moeopt
