#include "routing/placement.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "routing/routing_log.h"

namespace moeopt {

void check_shape(const PlacementShape& shape) {
  const auto refuse = [](const std::string& why) { throw Error(ErrorCode::kUsage, why); };
  if (shape.n_gpus < 1 || shape.n_gpus > 4096) {
    refuse(fmt::format("{} GPUs: 1 ... 4096 can be planned", shape.n_gpus));
  }
  if (shape.n_gpus > shape.n_experts) {
    refuse(
        fmt::format("{} GPUs for {} experts: some would hold none", shape.n_gpus, shape.n_experts));
  }
  if (shape.n_hosts < 1 || shape.n_gpus % shape.n_hosts != 0) {
    refuse(fmt::format("{} hosts do not divide {} GPUs", shape.n_hosts, shape.n_gpus));
  }
  if (shape.redundant < 0 || shape.redundant > shape.n_experts * (shape.n_gpus - 1)) {
    refuse(fmt::format("{} redundant experts: 0 ... {} make sense", shape.redundant,
                       shape.n_experts * (shape.n_gpus - 1)));
  }
  if (shape.n_groups < 1 || shape.n_experts % shape.n_groups != 0) {
    refuse(fmt::format("{} groups do not divide {} experts", shape.n_groups, shape.n_experts));
  }
}

std::vector<int> LayerPlacement::replicas(int n_experts) const {
  std::vector<int> copies(static_cast<std::size_t>(n_experts), 0);
  for (const int expert : expert_of_slot) {
    if (expert >= 0) copies[static_cast<std::size_t>(expert)] += 1;
  }
  return copies;
}

std::vector<int> LayerPlacement::expert_map(int gpu, int n_experts) const {
  std::vector<int> map(static_cast<std::size_t>(n_experts), -1);
  for (int slot = slots_per_gpu - 1; slot >= 0; --slot) {
    const int expert =
        expert_of_slot[static_cast<std::size_t>(gpu) * static_cast<std::size_t>(slots_per_gpu) +
                       static_cast<std::size_t>(slot)];
    if (expert >= 0) map[static_cast<std::size_t>(expert)] = slot;
  }
  return map;
}

LayerPlacement contiguous_placement(const PlacementShape& shape) {
  LayerPlacement placement;
  placement.slots_per_gpu = shape.slots_per_gpu();
  placement.expert_of_slot.assign(
      static_cast<std::size_t>(shape.n_gpus) * static_cast<std::size_t>(placement.slots_per_gpu),
      -1);
  const int whole = shape.n_experts / shape.n_gpus;
  const int longer = shape.n_experts % shape.n_gpus;  // the first GPUs hold one more
  int expert = 0;
  for (int gpu = 0; gpu < shape.n_gpus; ++gpu) {
    for (int slot = 0; slot < whole + (gpu < longer ? 1 : 0); ++slot) {
      placement.expert_of_slot[static_cast<std::size_t>(gpu) *
                                   static_cast<std::size_t>(placement.slots_per_gpu) +
                               static_cast<std::size_t>(slot)] = expert++;
    }
  }
  return placement;
}

std::vector<double> gpu_loads(const LayerPlacement& placement, std::span<const double> rows,
                              int n_gpus) {
  const std::vector<int> copies = placement.replicas(static_cast<int>(rows.size()));
  std::vector<double> loads(static_cast<std::size_t>(n_gpus), 0.0);
  for (std::size_t slot = 0; slot < placement.expert_of_slot.size(); ++slot) {
    const int expert = placement.expert_of_slot[slot];
    if (expert < 0) continue;
    const auto e = static_cast<std::size_t>(expert);
    loads[slot / static_cast<std::size_t>(placement.slots_per_gpu)] += rows[e] / copies[e];
  }
  return loads;
}

double max_over_mean(std::span<const double> loads) {
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  if (loads.empty() || sum <= 0) return 1.0;
  return *std::ranges::max_element(loads) * static_cast<double>(loads.size()) / sum;
}

Traffic traffic_of(const LayerPlacement& placement, const PlacementShape& shape,
                   std::span<const std::uint16_t> tokens, int top_k) {
  const auto n_experts = static_cast<std::size_t>(shape.n_experts);
  std::vector<std::vector<int>> gpus_of(n_experts);
  for (std::size_t slot = 0; slot < placement.expert_of_slot.size(); ++slot) {
    const int expert = placement.expert_of_slot[slot];
    if (expert < 0) continue;
    gpus_of[static_cast<std::size_t>(expert)].push_back(
        static_cast<int>(slot / static_cast<std::size_t>(placement.slots_per_gpu)));
  }
  std::vector<std::size_t> turn(n_experts, 0);
  std::vector<std::size_t> last_token_on_gpu(static_cast<std::size_t>(shape.n_gpus), 0);
  std::vector<std::size_t> last_token_on_host(static_cast<std::size_t>(shape.n_hosts), 0);
  std::size_t n_tokens = 0;
  std::size_t sent_gpus = 0;
  std::size_t sent_hosts = 0;
  for (std::size_t first = 0; first < tokens.size(); first += static_cast<std::size_t>(top_k)) {
    ++n_tokens;
    for (std::size_t i = first; i < first + static_cast<std::size_t>(top_k); ++i) {
      if (tokens[i] == kNoExpert) break;
      const auto& gpus = gpus_of[tokens[i]];
      const auto gpu = static_cast<std::size_t>(gpus[turn[tokens[i]]++ % gpus.size()]);
      const std::size_t host = gpu / static_cast<std::size_t>(shape.gpus_per_host());
      if (last_token_on_gpu[gpu] != n_tokens) ++sent_gpus;
      if (last_token_on_host[host] != n_tokens) ++sent_hosts;
      last_token_on_gpu[gpu] = last_token_on_host[host] = n_tokens;
    }
  }
  if (n_tokens == 0) return {};
  const auto n = static_cast<double>(n_tokens);
  return {static_cast<double>(sent_gpus) / n, static_cast<double>(sent_hosts) / n};
}

}  // namespace moeopt
