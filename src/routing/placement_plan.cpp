#include "routing/placement_plan.h"

#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/json.h"
#include "routing/balanced_placement.h"
#include "routing/eplb.h"

namespace moeopt {
namespace {

constexpr int kWindows = 32;  // half of them fitted to

std::span<const std::vector<double>> half(const LayerCounts& layer, bool first) {
  const std::span all(layer.windows);
  return first ? all.first(all.size() / 2) : all.subspan(all.size() / 2);
}

std::vector<double> rows_of(const LayerCounts& layer, bool first) {
  std::vector<double> sum(layer.windows.front().size(), 0.0);
  for (const auto& window : half(layer, first)) {
    for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += window[e];
  }
  return sum;
}

PlacementScore score(const LogStatistics& statistics, const PlacementShape& shape,
                     std::span<const LayerPlacement> layers, bool fitted,
                     const std::optional<SimulationInput>& simulation) {
  PlacementScore score;
  SimulatedTime time;
  const auto n = static_cast<double>(layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerCounts& counts = statistics.layers[i];
    const double even = max_over_mean(gpu_loads(layers[i], rows_of(counts, fitted), shape.n_gpus));
    score.mean_max_over_mean += even / n;
    score.worst_max_over_mean = std::max(score.worst_max_over_mean, even);
    const auto& tokens = fitted ? counts.kept_first : counts.kept_second;
    const Traffic traffic = traffic_of(layers[i], shape, tokens, statistics.header.top_k);
    score.gpus_per_token += traffic.gpus_per_token / n;
    score.hosts_per_token += traffic.hosts_per_token / n;
    if (!simulation) continue;
    const SimulatedTime layer =
        simulate_layer(layers[i], shape, tokens, statistics.header.top_k, simulation->batch,
                       simulation->layer, simulation->machine);
    time.expert_us += layer.expert_us / n;
    time.link_us += layer.link_us / n;
  }
  if (simulation) score.simulated = time;
  return score;
}

OrderedJson score_json(const PlacementScore& score) {
  OrderedJson json = {{"mean_max_over_mean", score.mean_max_over_mean},
                      {"worst_max_over_mean", score.worst_max_over_mean},
                      {"gpus_per_token", score.gpus_per_token},
                      {"hosts_per_token", score.hosts_per_token}};
  if (score.simulated) {
    json["simulated_layer_us"] = {{"experts", score.simulated->expert_us},
                                  {"link", score.simulated->link_us},
                                  {"total", score.simulated->total_us()}};
  }
  return json;
}

}  // namespace

StatisticsOptions placement_statistics_options() {
  StatisticsOptions options;
  options.windows = kWindows;
  options.kept_tokens = 8192;
  options.together = true;
  return options;
}

std::vector<MethodResult> compare_placements(const LogStatistics& statistics,
                                             const PlacementShape& shape,
                                             const std::optional<SimulationInput>& simulation) {
  check_shape(shape);
  if (statistics.counted.tokens < 2) {
    throw_error(ErrorCode::kUsage, "the log has {} tokens: nothing to fit and to judge by",
                statistics.counted.tokens);
  }
  std::vector<ExpertHistory> histories;
  for (const LayerCounts& layer : statistics.layers) {
    const auto first = half(layer, true);
    histories.push_back({shape.n_experts, {first.begin(), first.end()}});
  }
  std::vector<MethodResult> results(4);
  const char* const names[] = {"contiguous", "greedy", "eplb", "balanced"};
  for (std::size_t i = 0; i < results.size(); ++i) results[i].name = names[i];
  const double decay = choose_decay(histories);
  for (std::size_t i = 0; i < histories.size(); ++i) {
    const std::vector<double> rows = histories[i].total();
    results[0].layers.push_back(contiguous_placement(shape));
    results[1].layers.push_back(greedy_placement(shape, rows));
    if (auto eplb = eplb_placement(shape, rows)) results[2].layers.push_back(std::move(*eplb));
    results[3].layers.push_back(
        balanced_placement(shape, histories[i], {decay, statistics.layers[i].together}));
  }
  std::erase_if(results, [&](const MethodResult& result) {
    return result.layers.size() != histories.size();
  });
  for (MethodResult& result : results) {
    result.fitted = score(statistics, shape, result.layers, true, simulation);
    result.held_out = score(statistics, shape, result.layers, false, simulation);
  }
  return results;
}

std::string plan_file_json(const RoutingHeader& header, const PlacementShape& shape,
                           const MethodResult& chosen, const std::vector<MethodResult>& all) {
  OrderedJson json;
  json["schema"] = kPlacementSchema;
  json["model_id"] = header.model;
  json["method"] = chosen.name;
  json["n_experts"] = shape.n_experts;
  json["n_gpus"] = shape.n_gpus;
  json["n_hosts"] = shape.n_hosts;
  json["redundant"] = shape.redundant;
  json["slots_per_gpu"] = shape.slots_per_gpu();
  json["log_started"] = header.started;
  for (const MethodResult& result : all) {
    json["evaluation"][result.name] = {{"fitted", score_json(result.fitted)},
                                       {"held_out", score_json(result.held_out)}};
  }
  json["layers"] = OrderedJson::array();
  for (std::size_t i = 0; i < chosen.layers.size(); ++i) {
    const LayerPlacement& layer = chosen.layers[i];
    OrderedJson slots = OrderedJson::array();
    OrderedJson maps = OrderedJson::array();
    for (int gpu = 0; gpu < shape.n_gpus; ++gpu) {
      const auto begin =
          layer.expert_of_slot.begin() + static_cast<std::ptrdiff_t>(gpu) * layer.slots_per_gpu;
      slots.push_back(std::vector<int>(begin, begin + layer.slots_per_gpu));
      maps.push_back(layer.expert_map(gpu, shape.n_experts));
    }
    json["layers"].push_back(
        {{"layer", header.layers[i]}, {"experts_of_gpu", slots}, {"expert_map", maps}});
  }
  return json.dump() + "\n";
}

}  // namespace moeopt
