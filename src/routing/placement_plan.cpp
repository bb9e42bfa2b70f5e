#include "routing/placement_plan.h"

#include <algorithm>
#include <cmath>
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

// Whether our placement beats EPLB's (or, where that has none, greedy) beyond chance when both are
// fitted to the first three quarters of the first half and judged on its last: paired over the
// layers. Where a log shows no gain, the plain placement is taken, and nothing is risked on noise.
bool balancing_pays(std::span<const ExpertHistory> histories, const PlacementShape& shape,
                    double decay) {
  std::vector<double> gains;
  for (const ExpertHistory& history : histories) {
    const auto n = static_cast<std::ptrdiff_t>(history.windows.size() * 3 / 4);
    const ExpertHistory past{history.n_experts,
                             {history.windows.begin(), history.windows.begin() + n}};
    const ExpertHistory later{history.n_experts,
                              {history.windows.begin() + n, history.windows.end()}};
    const std::vector<double> rows = past.total();
    const LayerPlacement plain =
        eplb_placement(shape, rows).value_or(greedy_placement(shape, rows));
    const LayerPlacement ours = balanced_placement(shape, past, {decay, {}});
    const std::vector<double> came = later.total();
    gains.push_back(max_over_mean(gpu_loads(plain, came, shape.n_gpus)) -
                    max_over_mean(gpu_loads(ours, came, shape.n_gpus)));
  }
  const auto n = static_cast<double>(gains.size());
  double mean = 0;
  for (const double gain : gains) mean += gain / n;
  double squares = 0;
  for (const double gain : gains) squares += (gain - mean) * (gain - mean);
  const double error = n > 1 ? std::sqrt(squares / (n - 1) / n) : 0.0;
  return mean > (decay < 1 ? 0 : 2 * error);  // a decay was chosen on evidence of its own
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
  const bool pays = balancing_pays(histories, shape, decay);
  if (!pays) results[3].note = "as the plain one: the log's first half shows no gain from more";
  for (std::size_t i = 0; i < histories.size(); ++i) {
    const std::vector<double> rows = histories[i].total();
    results[0].layers.push_back(contiguous_placement(shape));
    results[1].layers.push_back(greedy_placement(shape, rows));
    if (auto eplb = eplb_placement(shape, rows)) results[2].layers.push_back(std::move(*eplb));
    results[3].layers.push_back(
        pays ? balanced_placement(shape, histories[i], {decay, statistics.layers[i].together})
             : eplb_placement(shape, rows).value_or(greedy_placement(shape, rows)));
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
