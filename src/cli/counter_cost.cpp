#include "cli/counter_cost.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include "backend/expert_choices.h"
#include "routing/expert_counts.h"

namespace moeopt::cli {
namespace {

// Nanoseconds of one call, over at least 50 ms of them.
template <typename Work>
double ns_of(Work work) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  std::uint64_t calls = 0;
  std::chrono::nanoseconds spent{0};
  do {
    for (int i = 0; i < 16; ++i) work();
    calls += 16;
    spent = Clock::now() - start;
  } while (spent < std::chrono::milliseconds(50));
  return static_cast<double>(spent.count()) / static_cast<double>(calls);
}

}  // namespace

double CounterCost::share(std::uint64_t rows, std::uint64_t steps, double wall_s) const {
  const double ns =
      ns_per_row * static_cast<double>(rows) + ns_per_step * static_cast<double>(steps);
  return wall_s > 0 ? ns * 1e-9 / wall_s : 0;
}

CounterCost measure_counters(const ModelSpec& spec) {
  constexpr std::size_t kRows = 512;  // of a layer in a step
  std::vector<int> experts_per_layer;
  for (const LayerSpec& layer : spec.layers) {
    experts_per_layer.push_back(layer.moe ? layer.moe->n_experts : 0);
  }
  ExpertCounts total(experts_per_layer);
  const auto width = static_cast<std::size_t>(total.max_experts());
  if (width == 0) return {};
  std::vector<std::uint32_t> step(experts_per_layer.size() * width);
  std::vector<std::int32_t> chosen(kRows);
  std::mt19937 random(1);
  const auto moe = std::ranges::find_if(experts_per_layer, [](int n) { return n > 0; });
  for (std::int32_t& id : chosen) {
    id = static_cast<std::int32_t>(random() % static_cast<unsigned>(*moe));
  }
  CounterCost cost;
  std::size_t layer = 0;
  cost.ns_per_row = ns_of([&] {
                      count_choices(chosen, std::span(step).subspan(layer * width, width));
                      layer = (layer + 1) % experts_per_layer.size();
                    }) /
                    static_cast<double>(kRows);
  cost.ns_per_step = ns_of([&] {
    std::ranges::fill(step, 0u);
    total.add(step);
  });
  return cost;
}

}  // namespace moeopt::cli
