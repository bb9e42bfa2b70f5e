// Layers of real models at their sizes: one set of weights a model and dtype, many batches.
#include <fmt/format.h>

#include <optional>

#include "gpu/draw.h"
#include "gpu/groups.h"
#include "gpu/model_layers.h"

namespace moeopt::gpu_test {
namespace {

struct Batch {
  const char* name;
  int tokens;
  int max_tokens;
  Spread spread;
  int top_k = 0;        // 0: the model's, -1: all experts (as far as the library goes)
  bool absent = false;  // half of the experts are not here
  bool device = false;
};

constexpr Batch kBatches[] = {
    {"none", 0, 64, Spread::kUniform},
    {"1", 1, 1, Spread::kUniform},
    {"2-of-8", 2, 8, Spread::kUniform, 0, false, true},
    {"7", 7, 8, Spread::kUniform},
    {"33-all", 33, 33, Spread::kUniform, -1},
    {"64-zipf", 64, 64, Spread::kZipf},
    {"129-absent", 129, 256, Spread::kUniform, 0, true},
    {"333-half-empty", 333, 512, Spread::kHalfEmpty, 0, false, true},
    {"512-hot", 512, 512, Spread::kHot},
    {"100-first", 100, 128, Spread::kUniform, 1},
    {"1021-zipf", 1021, 1024, Spread::kZipf},
    {"4096", 4096, 4096, Spread::kUniform},
};
constexpr int kQuickTokens = 130;

void run_batch(Suite& suite, Arena& arena, const ModelLayer& model, bool fp8, const Batch& batch,
               std::optional<Experts>& experts) {
  const std::string name = fmt::format("{}-{}-{}", model.name, fp8 ? "fp8" : "bf16", batch.name);
  suite.run(name, [&](Case& c, std::uint64_t seed) {
    CasePlan plan;
    plan.seed = seed;
    plan.desc = model.desc(fp8, batch.max_tokens);
    if (!experts) {  // first wanted batch of this model
      const LayerHandle layer = make_layer(plan.desc);
      experts.emplace(arena, plain_experts(plan.desc, mix(suite.options().seed, model.name)),
                      layer.get());
    }
    if (batch.top_k != 0) {
      plan.desc.top_k = batch.top_k > 0 ? batch.top_k : std::min(model.experts, 16);
    }
    plan.batch.tokens = batch.tokens;
    plan.batch.given = model.given;
    plan.batch.spread = batch.spread;
    plan.batch.device_tokens = batch.device;
    if (batch.absent) {
      Rng rng(seed);
      plan.batch.expert_map = draw_map(model.experts, model.experts, rng);
      for (int e = 0; e < model.experts; e += 2) {
        plan.batch.expert_map[static_cast<std::size_t>(e)] = -1;
      }
    }
    run_case(c, arena, plan, &*experts);
  });
}

}  // namespace

void test_real(Suite& suite, Arena& arena) {
  if (!suite.begin("real")) return;
  for (const ModelLayer& model : kModelLayers) {
    for (const bool fp8 : {false, true}) {
      const Arena::Scope scope(arena);
      std::optional<Experts> experts;
      for (const Batch& batch : kBatches) {
        if (suite.options().quick && batch.tokens > kQuickTokens) continue;
        run_batch(suite, arena, model, fp8, batch, experts);
      }
    }
  }
}

}  // namespace moeopt::gpu_test
