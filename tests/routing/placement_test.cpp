// Placements: what must hold of every one, closed forms of the figures, and ours against the others
// on routing that no model did.
#include "routing/placement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "routing/balanced_placement.h"
#include "routing/eplb.h"
#include "routing/generated_util.h"
#include "routing/placement_plan.h"

namespace moeopt {
namespace {

std::vector<double> skewed_rows(int n, unsigned seed) {
  std::mt19937 random(seed);
  std::lognormal_distribution<double> row(3.0, 1.0);
  std::vector<double> rows;
  for (int i = 0; i < n; ++i) rows.push_back(std::round(row(random)));
  return rows;
}

void expect_valid(const LayerPlacement& placement, const PlacementShape& shape, bool distinct) {
  ASSERT_EQ(placement.slots_per_gpu, shape.slots_per_gpu());
  ASSERT_EQ(placement.expert_of_slot.size(),
            static_cast<std::size_t>(shape.n_gpus * placement.slots_per_gpu));
  int copies = 0;
  for (const int n : placement.replicas(shape.n_experts)) {
    EXPECT_GE(n, 1);
    copies += n;
  }
  EXPECT_LE(copies, shape.n_experts + shape.redundant);
  for (int gpu = 0; gpu < shape.n_gpus; ++gpu) {
    std::set<int> seen;
    int used = 0;
    for (int slot = 0; slot < placement.slots_per_gpu; ++slot) {
      const int expert =
          placement.expert_of_slot[static_cast<std::size_t>(gpu * placement.slots_per_gpu + slot)];
      ASSERT_LT(expert, shape.n_experts);
      if (expert < 0) continue;
      ++used;
      seen.insert(expert);
    }
    if (distinct) {
      EXPECT_EQ(static_cast<int>(seen.size()), used);
    }
    const std::vector<int> map = placement.expert_map(gpu, shape.n_experts);
    for (int expert = 0; expert < shape.n_experts; ++expert) {
      const int slot = map[static_cast<std::size_t>(expert)];
      EXPECT_EQ(slot >= 0, seen.contains(expert));
      if (slot < 0) continue;
      EXPECT_EQ(
          placement.expert_of_slot[static_cast<std::size_t>(gpu * placement.slots_per_gpu + slot)],
          expert);
    }
  }
}

TEST(Placement, EveryOneIsWhole) {
  const PlacementShape shapes[] = {{8, 1, 1, 1, 0},     {8, 4, 1, 1, 0},  {8, 8, 2, 1, 8},
                                   {16, 4, 2, 4, 4},    {60, 8, 2, 1, 4}, {60, 7, 1, 1, 3},
                                   {256, 16, 2, 8, 32}, {12, 2, 2, 3, 0}, {5, 5, 5, 1, 0},
                                   {64, 8, 4, 1, 448}};
  for (const PlacementShape& shape : shapes) {
    SCOPED_TRACE(fmt::format("{} on {} of {}", shape.n_experts, shape.n_gpus, shape.n_hosts));
    check_shape(shape);
    const auto rows = skewed_rows(shape.n_experts, 3);
    const ExpertHistory history{shape.n_experts, {rows, skewed_rows(shape.n_experts, 4)}};
    std::vector<float> together(static_cast<std::size_t>(shape.n_experts * shape.n_experts), 1.0f);
    expect_valid(contiguous_placement(shape), shape, true);
    expect_valid(greedy_placement(shape, rows), shape, true);
    expect_valid(balanced_placement(shape, history, {0.8, together}), shape, true);
    expect_valid(balanced_placement(shape, history, {1.0, {}}), shape, true);
    const auto eplb = eplb_placement(shape, rows);
    EXPECT_EQ(eplb.has_value(), (shape.n_experts + shape.redundant) % shape.n_gpus == 0);
    if (eplb) expect_valid(*eplb, shape, false);
  }
}

TEST(Placement, RefusesWhatCannotBe) {
  for (const PlacementShape& shape :
       {PlacementShape{8, 0, 1, 1, 0}, PlacementShape{8, 9, 1, 1, 0}, PlacementShape{8, 4, 3, 1, 0},
        PlacementShape{8, 4, 1, 1, -1}, PlacementShape{8, 4, 1, 1, 25},
        PlacementShape{8, 4, 1, 3, 0}, PlacementShape{8, 4, 0, 1, 0}}) {
    EXPECT_THROW(check_shape(shape), Error);
  }
}

// Worked by hand: rows 90, 40, 30, 20, 10, 10 on 2 GPUs with 2 copies: expert 0 gets 45 + 45, then
// (45 after the split, so 45 again) a third copy of 30 each.
TEST(Eplb, AWorkedExample) {
  const PlacementShape shape{6, 2, 1, 1, 2};
  const std::vector<double> rows = {90, 40, 30, 20, 10, 10};
  const auto placement = eplb_placement(shape, rows);
  ASSERT_TRUE(placement.has_value());
  EXPECT_EQ(placement->replicas(6), (std::vector<int>{3, 1, 1, 1, 1, 1}));
  const auto loads = gpu_loads(*placement, rows, 2);
  EXPECT_DOUBLE_EQ(loads[0] + loads[1], 200);
  EXPECT_DOUBLE_EQ(max_over_mean(loads), 1.0);
}

// Group-limited: two groups on two hosts; no expert leaves its group's host.
TEST(Placement, KeepsGroupsOnAHost) {
  const PlacementShape shape{16, 4, 2, 4, 4};
  const auto rows = skewed_rows(16, 9);
  for (const LayerPlacement& placement :
       {*eplb_placement(shape, rows), balanced_placement(shape, {16, {rows}}, {1.0, {}})}) {
    std::vector<std::set<int>> hosts(4);
    for (std::size_t slot = 0; slot < placement.expert_of_slot.size(); ++slot) {
      const int expert = placement.expert_of_slot[slot];
      if (expert < 0) continue;
      const int gpu = static_cast<int>(slot) / placement.slots_per_gpu;
      hosts[static_cast<std::size_t>(expert / 4)].insert(gpu / 2);
    }
    for (const auto& host : hosts) EXPECT_EQ(host.size(), 1u);
  }
}

TEST(Traffic, CountsDistinctGpusAndHosts) {
  const PlacementShape shape{8, 4, 2, 1, 0};
  const LayerPlacement placement = contiguous_placement(shape);  // 0 1 | 2 3 || 4 5 | 6 7
  const std::vector<std::uint16_t> tokens = {0, 1, 2, 3, 0, 2, 0, 7, 6, kNoExpert};
  const Traffic traffic = traffic_of(placement, shape, tokens, 2);
  EXPECT_DOUBLE_EQ(traffic.gpus_per_token, (1 + 1 + 2 + 2 + 1) / 5.0);
  EXPECT_DOUBLE_EQ(traffic.hosts_per_token, (1 + 1 + 1 + 2 + 1) / 5.0);
}

// Two hosts, and two sets of experts each of which is always chosen together: each set to one host.
TEST(BalancedPlacement, BringsTogetherWhatIsChosenTogether) {
  const PlacementShape shape{8, 4, 2, 1, 0};
  const std::vector<double> rows(8, 100.0);
  std::vector<float> together(64, 0.0f);
  std::vector<std::uint16_t> tokens;
  const std::uint16_t sets[2][4] = {{0, 3, 5, 6}, {1, 2, 4, 7}};
  for (const auto& set : sets) {
    for (int i = 0; i < 4; ++i) {
      tokens.push_back(set[i]);
      for (int j = 0; j < 4; ++j) {
        if (i != j) together[static_cast<std::size_t>(set[i] * 8 + set[j])] = 100;
      }
    }
  }
  const LayerPlacement placement = balanced_placement(shape, {8, {rows}}, {1.0, together});
  EXPECT_DOUBLE_EQ(traffic_of(placement, shape, tokens, 4).hosts_per_token, 1.0);
  EXPECT_DOUBLE_EQ(max_over_mean(gpu_loads(placement, rows, 4)), 1.0);
}

TEST(Forecast, ForgetsOnlyWhenItPays) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  std::vector<ExpertHistory> still(4), wandering(4);
  for (std::size_t layer = 0; layer < 4; ++layer) {
    still[layer].n_experts = wandering[layer].n_experts = 32;
    std::vector<double> share(32, 5.0);
    for (int window = 0; window < 16; ++window) {
      std::vector<double> a, b;
      for (double& log_rows : share) {
        log_rows += 0.4 * normal(random);
        a.push_back(std::poisson_distribution<int>(150)(random));
        b.push_back(std::poisson_distribution<int>(std::exp(log_rows))(random));
      }
      still[layer].windows.push_back(a);
      wandering[layer].windows.push_back(b);
    }
  }
  EXPECT_EQ(choose_decay(still), 1.0);
  EXPECT_LT(choose_decay(wandering), 0.9);
}

struct Case {
  const char* name;
  GeneratedLog log;
  PlacementShape shape;
};

// Sanitizers look for their own mistakes on logs too small for a comparison to mean anything.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

std::vector<Case> cases() {
  std::vector<Case> cases;
  GeneratedLog log;
  if (kSanitized) {
    log.n_layers = 2;
    log.n_experts = 64;
  }
  const int e = log.n_experts;
  log.wander = 0.0;
  cases.push_back({"still", log, {e, 8, 1, 1, 0}});
  cases.push_back({"still, copies", log, {e, 8, 1, 1, e / 8}});
  log.wander = 0.1;
  log.seed = 2;
  cases.push_back({"wandering", log, {e, 8, 1, 1, 0}});
  cases.push_back({"wandering, copies", log, {e, 8, 1, 1, e / 8}});
  cases.push_back({"wandering, two hosts with groups", log, {e, 16, 2, 8, std::max(16, e / 8)}});
  log.zipf = 1.0;
  log.topics = 0.6;
  log.seed = 3;
  cases.push_back({"skewed, with topics", log, {e, 8, 1, 1, 0}});
  cases.push_back({"skewed, with topics, copies", log, {e, 32, 1, 1, std::max(32, e / 4)}});
  return cases;
}

// The comparison of docs/routing.md: 58 layers of 256 experts, fitted on one half of the log.
TEST(BalancedPlacement, IsNoWorseThanEplbOnTheHeldOutHalf) {
  GeneratedLog generated;
  generated.seed = 0;
  std::optional<LogStatistics> statistics;
  for (const Case& c : cases()) {
    if (c.log.seed != generated.seed || !statistics || c.log.wander != generated.wander) {
      statistics = generate_statistics(c.log);
      generated = c.log;
    }
    const auto results = compare_placements(*statistics, c.shape, std::nullopt);
    ASSERT_EQ(results.size(), 4u);
    const PlacementScore& eplb = results[2].held_out;
    const PlacementScore& ours = results[3].held_out;
    for (const MethodResult& result : results) {
      std::printf("%-34s %-11s fitted %.4f held out %.4f worst %.4f gpus %.2f hosts %.2f\n", c.name,
                  result.name.c_str(), result.fitted.mean_max_over_mean,
                  result.held_out.mean_max_over_mean, result.held_out.worst_max_over_mean,
                  result.held_out.gpus_per_token, result.held_out.hosts_per_token);
    }
    if (kSanitized) continue;
    EXPECT_LE(ours.mean_max_over_mean, eplb.mean_max_over_mean) << c.name;
    EXPECT_LT(ours.mean_max_over_mean, results[0].held_out.mean_max_over_mean) << c.name;
  }
}

TEST(PlanFile, SaysTheSameTwice) {
  GeneratedLog log;
  log.n_layers = 2;
  log.n_experts = 16;
  log.top_k = 4;
  const LogStatistics statistics = generate_statistics(log);
  const PlacementShape shape{16, 4, 1, 1, 4};
  const SimulationInput simulation{{2048, 768, 2, 2}, {}, 64};
  const auto results = compare_placements(statistics, shape, simulation);
  const Json plan = Json::parse(plan_file_json(statistics.header, shape, results[3], results));
  EXPECT_EQ(plan["schema"], kPlacementSchema);
  EXPECT_EQ(plan["method"], "balanced");
  ASSERT_EQ(plan["layers"].size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    const Json& layer = plan["layers"][i];
    for (std::size_t gpu = 0; gpu < 4; ++gpu) {
      ASSERT_EQ(layer["experts_of_gpu"][gpu].size(), 5u);
      for (std::size_t slot = 0; slot < 5; ++slot) {
        const int expert = layer["experts_of_gpu"][gpu][slot];
        if (expert >= 0) {
          EXPECT_EQ(layer["expert_map"][gpu][static_cast<std::size_t>(expert)], slot);
        }
      }
    }
  }
  EXPECT_TRUE(plan["evaluation"]["balanced"]["held_out"].contains("simulated_layer_us"));
}

// By hand: one GPU holds everything, so there is no link; 64 tokens of 2 experts, all 4 active.
TEST(Simulator, HasItsClosedForms) {
  const PlacementShape one{4, 1, 1, 1, 0};
  std::vector<std::uint16_t> tokens;
  for (std::uint16_t t = 0; t < 64; ++t) {
    tokens.push_back(t % 4);
    tokens.push_back((t + 1) % 4);
  }
  const SimulatedLayer layer{1000, 100, 2, 1};
  SimulatedMachine machine;
  machine.memory_bytes_per_s = 1e12;
  machine.flops = 1e15;
  machine.link_bytes_per_s = 1e9;
  machine.round_us = 3;
  const SimulatedTime alone =
      simulate_layer(contiguous_placement(one), one, tokens, 2, 64, layer, machine);
  EXPECT_NEAR(alone.expert_us, 4 * 3e5 * 2 / 1e12 * 1e6, 1e-9);
  EXPECT_EQ(alone.link_us, 0);
  // Two GPUs, experts 0 1 | 2 3; token t lives on GPU t % 2 and goes to experts t % 4, t % 4 + 1:
  // 0: {0,1} at 0, none sent; 1: {1,2} at 1, to 0; 2: {2,3} at 0, to 1; 3: {3,0} at 1, to 0.
  const PlacementShape two{4, 2, 1, 1, 0};
  const SimulatedTime pair =
      simulate_layer(contiguous_placement(two), two, tokens, 2, 64, layer, machine);
  EXPECT_NEAR(pair.expert_us, 2 * 3e5 * 2 / 1e12 * 1e6, 1e-9);
  EXPECT_NEAR(pair.link_us, 32 * 1000 * 3.0 / 1e9 * 1e6 + 6, 1e-9);
  machine.flops = 1e9;  // products bound
  const SimulatedTime slow =
      simulate_layer(contiguous_placement(two), two, tokens, 2, 64, layer, machine);
  EXPECT_NEAR(slow.expert_us, 64 * 6e5 / 1e9 * 1e6, 1e-6);
  EXPECT_EQ(simulate_layer(contiguous_placement(two), two, {}, 2, 64, layer, machine).total_us(),
            0);
}

}  // namespace
}  // namespace moeopt
