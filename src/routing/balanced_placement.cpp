#include "routing/balanced_placement.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "routing/eplb.h"
#include "routing/gpu_packing.h"

namespace moeopt {
namespace {

std::vector<double> shares(std::span<const double> rows) {
  const double sum = std::accumulate(rows.begin(), rows.end(), 0.0);
  std::vector<double> out(rows.begin(), rows.end());
  for (double& value : out) value = sum > 0 ? value / sum : 1.0 / static_cast<double>(rows.size());
  return out;
}

std::vector<double> mean_share(std::span<const std::vector<double>> windows) {
  std::vector<double> sum(windows.front().size(), 0.0);
  for (const auto& window : windows) {
    for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += window[e];
  }
  return shares(sum);
}

// Variance of a window's share against its mean share, beyond what counting rows would give
// (Poisson).
double true_spread(const ExpertHistory& history, std::span<const double> mean) {
  double sum = 0;
  double weight = 0;
  for (const auto& window : history.windows) {
    const double rows = std::accumulate(window.begin(), window.end(), 0.0);
    for (std::size_t e = 0; e < mean.size(); ++e) {
      const double even = mean[e] * rows;
      sum += (window[e] - even) * (window[e] - even) - even;
      weight += even * even;
    }
  }
  return weight > 0 ? std::max(0.0, sum / weight) : 0.0;
}

// How a share may turn out: the forecast itself, and the forecast bent as each window was bent
// against the mean of all. Weights of the scenarios add up to 1.
Scenarios make_scenarios(const ExpertHistory& history, std::span<const double> expected) {
  Scenarios scenarios;
  scenarios.rows.emplace_back(expected.begin(), expected.end());
  scenarios.weights.push_back(0.5);
  if (history.windows.size() < 2) {
    scenarios.weights[0] = 1.0;
    return scenarios;
  }
  const std::vector<double> mean = mean_share(history.windows);
  const double spread = true_spread(history, mean);
  for (const auto& window : history.windows) {
    const double rows = std::accumulate(window.begin(), window.end(), 0.0);
    if (rows <= 0) continue;
    std::vector<double> bent(expected.begin(), expected.end());
    for (std::size_t e = 0; e < bent.size(); ++e) {
      const double even = mean[e] * rows;
      if (even <= 0) continue;
      // What a window deviates by, less the part that counting alone explains.
      bent[e] *= 1 + (window[e] / even - 1) * spread / (spread + 1 / even);
    }
    scenarios.rows.push_back(shares(bent));
  }
  const auto n = static_cast<double>(scenarios.rows.size() - 1);
  for (std::size_t s = 1; s < scenarios.rows.size(); ++s) scenarios.weights.push_back(0.5 / n);
  return scenarios;
}

// The units that go to a host as a whole: the router's groups, or single experts.
std::vector<int> hosts_of_experts(const PlacementShape& shape, std::span<const double> expected,
                                  std::span<const float> together) {
  const bool grouped = shape.n_groups > 1 && shape.n_groups % shape.n_hosts == 0;
  const int n_units = grouped ? shape.n_groups : shape.n_experts;
  const auto unit_experts = static_cast<std::size_t>(shape.n_experts / n_units);
  std::vector<double> rows(static_cast<std::size_t>(n_units), 0.0);
  for (std::size_t e = 0; e < expected.size(); ++e) rows[e / unit_experts] += expected[e];
  const int room_experts = shape.slots_per_gpu() * shape.gpus_per_host();
  const int fair = (n_units + shape.n_hosts - 1) / shape.n_hosts;
  const int room = std::min(fair, room_experts / static_cast<int>(unit_experts));
  std::vector<int> host_of = pack_longest_first(rows, shape.n_hosts, room);
  if (!grouped && !together.empty()) gather_on_hosts(rows, together, shape.n_hosts, host_of);
  std::vector<int> of_expert(expected.size());
  for (std::size_t e = 0; e < expected.size(); ++e) of_expert[e] = host_of[e / unit_experts];
  return of_expert;
}

LayerPlacement empty_placement(const PlacementShape& shape) {
  LayerPlacement placement;
  placement.slots_per_gpu = shape.slots_per_gpu();
  placement.expert_of_slot.assign(
      static_cast<std::size_t>(shape.n_gpus) * static_cast<std::size_t>(placement.slots_per_gpu),
      -1);
  return placement;
}

}  // namespace

std::vector<double> ExpertHistory::total() const {
  std::vector<double> sum(static_cast<std::size_t>(n_experts), 0.0);
  for (const auto& window : windows) {
    for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += window[e];
  }
  return sum;
}

std::vector<double> forecast(const ExpertHistory& history, double decay) {
  std::vector<double> sum(static_cast<std::size_t>(history.n_experts), 0.0);
  double weight = 1.0;
  for (std::size_t w = history.windows.size(); w-- > 0; weight *= decay) {
    for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += weight * history.windows[w][e];
  }
  return shares(sum);
}

double choose_decay(std::span<const ExpertHistory> layers) {
  constexpr std::array kDecays{1.0, 0.9, 0.8, 0.65, 0.5, 0.35};
  double best_decay = 1.0;
  double best_error = std::numeric_limits<double>::infinity();
  for (const double decay : kDecays) {
    double error = 0;
    for (const ExpertHistory& layer : layers) {
      const std::size_t n = layer.windows.size();
      for (const std::size_t known : {n / 2, 3 * n / 4}) {
        if (known == 0 || known == n) continue;
        const ExpertHistory past{
            layer.n_experts,
            {layer.windows.begin(), layer.windows.begin() + static_cast<std::ptrdiff_t>(known)}};
        const std::vector<double> expected = forecast(past, decay);
        const std::vector<double> came = mean_share(std::span(layer.windows).subspan(known));
        for (std::size_t e = 0; e < came.size(); ++e) error += std::fabs(expected[e] - came[e]);
      }
    }
    // Forgetting must pay clearly: it also throws counts away.
    if (error < best_error * (best_decay == 1.0 && decay != 1.0 ? 0.98 : 1.0)) {
      best_error = error;
      best_decay = decay;
    }
  }
  return best_decay;
}

LayerPlacement greedy_placement(const PlacementShape& shape, std::span<const double> rows) {
  LayerPlacement placement = empty_placement(shape);
  const std::vector<double> expected = shares(rows);
  std::vector<int> all(expected.size());
  std::iota(all.begin(), all.end(), 0);
  GpuPacking packing(all, expected, shape.n_gpus, placement.slots_per_gpu,
                     shape.n_experts + shape.redundant);
  packing.write(placement, 0);
  return placement;
}

LayerPlacement balanced_placement(const PlacementShape& shape, const ExpertHistory& history,
                                  const BalancedOptions& options) {
  const std::vector<double> expected = forecast(history, options.decay);
  const Scenarios scenarios = make_scenarios(history, expected);
  const std::vector<int> host_of = hosts_of_experts(shape, expected, options.together);
  LayerPlacement placement = empty_placement(shape);
  const int host_slots = placement.slots_per_gpu * shape.gpus_per_host();
  int copies_left = shape.redundant;
  for (int host = 0; host < shape.n_hosts; ++host) {
    std::vector<int> mine;
    for (int expert = 0; expert < shape.n_experts; ++expert) {
      if (host_of[static_cast<std::size_t>(expert)] == host) mine.push_back(expert);
    }
    const int share = (copies_left + shape.n_hosts - host - 1) / (shape.n_hosts - host);
    const int copies = std::min(share, host_slots - static_cast<int>(mine.size()));
    copies_left -= copies;
    GpuPacking packing(mine, expected, shape.gpus_per_host(), placement.slots_per_gpu,
                       static_cast<int>(mine.size()) + copies);
    packing.even_out(scenarios);
    if (!options.together.empty()) packing.gather(scenarios, options.together, shape.n_experts);
    packing.write(placement, host * shape.gpus_per_host());
  }
  return placement;
}

}  // namespace moeopt
