// What a step says of its routing against Transformers' routers, on every golden checkpoint: the
// prompt at once, in chunks, and token by token as decoding does it. And what it costs when off.
#include <gtest/gtest.h>

#include <algorithm>

#include "cpu/allocations_util.h"
#include "cpu/golden_util.h"
#include "cpu/runner_util.h"
#include "golden_test_name.h"

namespace moeopt::cpu {
namespace {

struct Chosen {
  std::vector<std::pair<std::int16_t, float>> slots;  // by id
};

// One step of one sequence; appends [layer][token] choices.
void run_step(CpuBackend& backend, std::span<const std::int32_t> tokens, int first_position,
              std::span<const std::int32_t> table, std::vector<std::vector<Chosen>>& layers) {
  StepPlan plan(backend.capacity());
  std::vector<TokenRef> refs;
  for (const std::int32_t id : tokens) refs.push_back(TokenRef::literal(id));
  plan.clear();
  plan.add_sequence(0, first_position, refs, table);
  backend.prepare(plan);
  const StepRoutes routes = backend.wait(backend.launch()).routes;
  ASSERT_EQ(routes.n_tokens, static_cast<int>(tokens.size()));
  const auto top_k = static_cast<std::size_t>(routes.top_k);
  const std::size_t n_layers = routes.ids.size() / tokens.size() / top_k;
  ASSERT_EQ(routes.weights.size(), routes.ids.size());
  layers.resize(n_layers);
  for (std::size_t layer = 0; layer < n_layers; ++layer) {
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      Chosen& chosen = layers[layer].emplace_back();
      const std::size_t first = (layer * tokens.size() + t) * top_k;
      for (std::size_t slot = first; slot < first + top_k && routes.ids[slot] >= 0; ++slot) {
        chosen.slots.emplace_back(routes.ids[slot], routes.weights[slot]);
      }
      std::ranges::sort(chosen.slots);
    }
  }
}

void expect_golden(const Golden& golden, const std::vector<std::vector<Chosen>>& layers) {
  std::size_t moe_layer = 0;
  for (const GoldenLayer& wanted : golden.routing) {
    if (wanted.experts.empty()) continue;
    ASSERT_LT(moe_layer, layers.size());
    const std::vector<Chosen>& got = layers[moe_layer++];
    ASSERT_EQ(got.size(), golden.prompt.size());
    for (std::size_t position = 0; position < got.size(); ++position) {
      ASSERT_EQ(got[position].slots.size(), wanted.experts[position].size());
      for (std::size_t i = 0; i < got[position].slots.size(); ++i) {
        EXPECT_EQ(got[position].slots[i].first, wanted.experts[position][i])
            << "position " << position;
        EXPECT_NEAR(got[position].slots[i].second, wanted.weights[position][i],
                    1e-4 * wanted.weights[position][i] + 2e-7);
      }
    }
  }
  EXPECT_EQ(moe_layer, layers.size());
}

class RoutesTest : public testing::TestWithParam<std::string> {};

TEST_P(RoutesTest, AreTransformersAtOnceInChunksAndTokenByToken) {
  const Golden golden = load_golden(GetParam());
  const LoadedModel model = load_model(golden.folder);
  const int length = static_cast<int>(golden.prompt.size());
  ExecutionLimits limits = small_limits(1, length, 4, (length + 3) / 4);
  limits.record_routes = true;
  CpuBackend backend(model.spec, *model.source, limits, make_reference_ops());
  backend.set_record_routes(true);
  for (const int chunk : {length, 5, 1}) {
    SCOPED_TRACE(chunk);
    std::vector<std::vector<Chosen>> layers;
    backend.bind_slot(0, SamplingParams{}, {});
    for (int begin = 0; begin < length; begin += chunk) {
      const auto part = std::span(golden.prompt)
                            .subspan(static_cast<std::size_t>(begin),
                                     static_cast<std::size_t>(std::min(chunk, length - begin)));
      run_step(backend, part, begin, plain_table(limits), layers);
    }
    expect_golden(golden, layers);
  }
}

INSTANTIATE_TEST_SUITE_P(All, RoutesTest, testing::ValuesIn(golden_names()), golden_test_name);

// Two steps in flight keep their own routes; fast tiles record what the step's counts say.
TEST(Routes, OfFastTilesAddUpToTheExpertCounts) {
  const Golden golden = load_golden("qwen3");
  const LoadedModel model = load_model(golden.folder);
  const int length = static_cast<int>(golden.prompt.size());
  ExecutionLimits limits = small_limits(1, length, 4, (length + 3) / 4);
  limits.record_routes = true;
  CpuBackend backend(model.spec, *model.source, limits, make_fast_ops(2, "auto"));
  backend.set_record_routes(true);
  StepPlan plan(backend.capacity());
  std::vector<Ticket> tickets;
  const int half = length / 2;
  for (const int begin : {0, half}) {
    const int n = begin == 0 ? half : length - half;
    std::vector<TokenRef> refs;
    for (int i = 0; i < n; ++i) {
      refs.push_back(TokenRef::literal(golden.prompt[static_cast<std::size_t>(begin + i)]));
    }
    plan.clear();
    plan.add_sequence(0, begin, refs, plain_table(limits));
    backend.prepare(plan);
    tickets.push_back(backend.launch());
  }
  const auto n_layers = model.spec.layers.size();
  for (const Ticket ticket : tickets) {
    const StepResult result = backend.wait(ticket);
    std::vector<std::uint32_t> counts(result.expert_counts.size(), 0);
    const std::size_t stride = counts.size() / n_layers;
    const std::size_t row = static_cast<std::size_t>(result.routes.n_tokens * result.routes.top_k);
    ASSERT_EQ(result.routes.ids.size(), row * n_layers);
    for (std::size_t i = 0; i < result.routes.ids.size(); ++i) {
      counts[i / row * stride + static_cast<std::size_t>(result.routes.ids[i])] += 1;
    }
    EXPECT_TRUE(std::ranges::equal(counts, result.expert_counts));
  }
}

struct OffCost {
  std::size_t allocations;
  std::vector<WorkspaceBuffer> buffers;
  bool empty_routes;
  std::vector<float> logits;
  Backend::Counters counters;
};

OffCost run(const Golden& golden, bool planned, bool record) {
  const LoadedModel model = load_model(golden.folder);
  const int length = static_cast<int>(golden.prompt.size());
  ExecutionLimits limits = small_limits(1, length, 4, (length + 3) / 4);
  limits.record_routes = planned;
  CpuBackend backend(model.spec, *model.source, limits, make_fast_ops(1, "auto"));
  if (record) backend.set_record_routes(true);
  StepPlan plan(backend.capacity());
  std::vector<TokenRef> refs;
  for (const std::int32_t id : golden.prompt) refs.push_back(TokenRef::literal(id));
  plan.add_sequence(0, 0, refs, plain_table(limits));
  for (int i = 0; i < length; ++i) plan.add_sample(i, 0, kWantLogits);
  start_counting_allocations();
  StepResult result{};
  for (int i = 0; i < 3; ++i) {
    backend.prepare(plan);
    result = backend.wait(backend.launch());
  }
  const std::size_t n_allocations = stop_counting_allocations();
  return {n_allocations,
          backend.buffers(),
          result.routes.ids.empty(),
          {result.logits.begin(), result.logits.end()},
          backend.counters()};
}

TEST(Routes, OffIsOff) {
  const Golden golden = load_golden("qwen3");
  const OffCost off = run(golden, false, false);
  const OffCost on = run(golden, true, true);
  EXPECT_TRUE(off.empty_routes);
  EXPECT_FALSE(on.empty_routes);
  EXPECT_EQ(off.allocations, 0u);
  EXPECT_EQ(on.allocations, 0u);
  // The only thing that recording adds to a backend is one planned buffer.
  ASSERT_EQ(on.buffers.size(), off.buffers.size() + 1);
  for (const WorkspaceBuffer& buffer : on.buffers) {
    const bool known = std::ranges::any_of(off.buffers, [&](const WorkspaceBuffer& other) {
      return other.name == buffer.name && other.bytes == buffer.bytes;
    });
    EXPECT_EQ(known, buffer.name != "routes") << buffer.name;
  }
  EXPECT_EQ(off.logits, on.logits);  // to the bit
  EXPECT_EQ(off.counters.moe_layer_launches, on.counters.moe_layer_launches);
  EXPECT_EQ(off.counters.expert_rows, on.counters.expert_rows);
  if (counts_allocations()) {
    start_counting_allocations();
    const auto proof = std::make_unique<int>(1);
    EXPECT_EQ(stop_counting_allocations(), 1u);
  }
}

}  // namespace
}  // namespace moeopt::cpu
