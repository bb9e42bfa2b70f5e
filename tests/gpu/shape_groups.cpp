// The groups that hold whole cases against the reference: tiny, random, limits, soak.
#include <fmt/format.h>

#include <chrono>

#include "gpu/draw.h"
#include "gpu/groups.h"

namespace moeopt::gpu_test {
namespace {

moeopt_moe_desc base_desc(bool fp8) {
  moeopt_moe_desc desc{};
  desc.struct_size = sizeof(desc);
  desc.dtype = fp8 ? MOEOPT_FP8 : MOEOPT_BF16;
  desc.hidden = 256;
  desc.intermediate = 256;
  desc.experts = 8;
  desc.top_k = 2;
  desc.slots = 8;
  desc.max_tokens = 64;
  desc.renormalise = 1;
  return desc;
}

// A named change of a plain layer and its batch.
struct Variation {
  const char* name;
  void (*change)(moeopt_moe_desc& desc, BatchPlan& batch);
};

void run_variation(Suite& suite, Arena& arena, const Variation& v, bool fp8) {
  suite.run(fmt::format("{}-{}", v.name, fp8 ? "fp8" : "bf16"), [&](Case& c, std::uint64_t seed) {
    CasePlan plan;
    plan.seed = seed;
    plan.desc = base_desc(fp8);
    plan.batch.tokens = 13;
    v.change(plan.desc, plan.batch);
    plan.experts = plain_experts(plan.desc, seed);
    run_case(c, arena, plan);
  });
}

constexpr Variation kTiny[] = {
    {"plain", [](moeopt_moe_desc&, BatchPlan&) {}},
    {"one-token", [](moeopt_moe_desc&, BatchPlan& b) { b.tokens = 1; }},
    {"few-tokens", [](moeopt_moe_desc& d, BatchPlan& b) { d.max_tokens = b.tokens = 7; }},
    {"many-tokens", [](moeopt_moe_desc& d, BatchPlan& b) { d.max_tokens = b.tokens = 150; }},
    {"shared",
     [](moeopt_moe_desc& d, BatchPlan&) {
       d.shared_intermediate = 384;
       d.shared_gate = 1;
     }},
    {"two-tokens-shared",  // the tile of few tokens in both dtypes; its publisher routes
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.max_tokens = b.tokens = 2;
       d.shared_intermediate = 384;
       d.shared_gate = 1;
     }},
    {"grouped-sigmoid",
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.score = MOEOPT_SIGMOID;
       d.groups = 4;
       d.top_k_groups = 2;
       d.group_score = MOEOPT_GROUP_TOP2;
       d.scale = 2.5f;
       b.bias = true;
     }},
    {"given", [](moeopt_moe_desc&,
                 BatchPlan& b) { b.given = b.repeat_ids = b.absent_ids = b.poison_unused = true; }},
    {"map",
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.slots = 5;
       b.expert_map = {3, -1, 0, -1, 4, 1, -1, 2};
       b.device_tokens = true;
       b.x_padding = b.out_padding = 8;
     }},
};

constexpr Variation kLimits[] = {
    {"no-tokens", [](moeopt_moe_desc&, BatchPlan& b) { b.tokens = 0; }},
    {"smallest",
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.hidden = d.intermediate = d.dtype == MOEOPT_FP8 ? 128 : 64;
       d.experts = d.slots = d.top_k = d.max_tokens = b.tokens = 1;
     }},
    {"widest-hidden",
     [](moeopt_moe_desc& d, BatchPlan&) {
       d.hidden = 16384;
       d.intermediate = 128;
     }},
    {"uneven-columns",  // of the parts that a token's combinations are
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.hidden = 5120;
       d.intermediate = 128;
       d.max_tokens = b.tokens = 40;
       b.out_padding = 8;
     }},
    {"widest-intermediate",
     [](moeopt_moe_desc& d, BatchPlan&) {
       d.intermediate = 32768;
       d.hidden = 128;
       d.shared_intermediate = 32768;
     }},
    {"long-k",  // an odd number of K blocks in both dtypes, an odd number of tiles
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.intermediate = d.dtype == MOEOPT_FP8 ? 8320 : 8256;
       d.hidden = 384;
       d.max_tokens = b.tokens = 3;
     }},
    {"long-k-hot",
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.intermediate = 8320;
       d.hidden = 384;
       d.top_k = 1;
       d.max_tokens = b.tokens = 40;
       b.spread = Spread::kHot;
     }},
    {"most-experts",
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.experts = d.slots = 512;
       d.top_k = 16;
       d.max_tokens = b.tokens = 300;
     }},
    {"all-experts", [](moeopt_moe_desc& d, BatchPlan&) { d.top_k = 8; }},
    {"one-expert", [](moeopt_moe_desc& d, BatchPlan&) { d.experts = d.slots = d.top_k = 1; }},
    {"most-tokens",
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.hidden = d.intermediate = 128;
       d.max_tokens = b.tokens = 65536;
     }},
    {"one-of-most-tokens", [](moeopt_moe_desc& d, BatchPlan&) { d.max_tokens = 65536; }},
    {"nothing-here",
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.slots = 1;
       b.expert_map.assign(8, -1);
     }},
    {"all-in-one-expert",
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.top_k = 1;
       d.max_tokens = b.tokens = 1000;
       b.spread = Spread::kHot;
     }},
    {"one-expert-in-all-slots",
     [](moeopt_moe_desc& d, BatchPlan& b) {
       d.experts = 8;
       d.slots = 1;
       d.top_k = 8;
       d.max_tokens = b.tokens = 200;
       b.expert_map.assign(8, 0);  // every id means the same packed expert
     }},
};

}  // namespace

void test_tiny(Suite& suite, Arena& arena) {
  if (!suite.begin("tiny")) return;
  for (const Variation& v : kTiny) {
    for (const bool fp8 : {false, true}) run_variation(suite, arena, v, fp8);
  }
}

void test_limits(Suite& suite, Arena& arena) {
  if (!suite.begin("limits")) return;
  for (const Variation& v : kLimits) {
    for (const bool fp8 : {false, true}) run_variation(suite, arena, v, fp8);
  }
}

void test_random(Suite& suite, Arena& arena) {
  if (!suite.begin("random")) return;
  constexpr int kCases = 320;
  constexpr int kQuickCases = 100;
  const int cases = suite.options().quick ? kQuickCases : kCases;
  for (int i = 0; i < cases; ++i) {
    suite.run(std::to_string(i),
              [&](Case& c, std::uint64_t seed) { run_case(c, arena, draw_case(seed)); });
  }
}

void test_prefill(Suite& suite, Arena& arena) {
  if (!suite.begin("prefill")) return;
  constexpr int kCases = 64;
  constexpr int kQuickCases = 12;
  const int cases = suite.options().quick ? kQuickCases : kCases;
  for (int i = 0; i < cases; ++i) {
    suite.run(std::to_string(i),
              [&](Case& c, std::uint64_t seed) { run_case(c, arena, draw_prefill_case(seed)); });
  }
}

void soak(Suite& suite, Arena& arena) {
  if (!suite.begin("soak")) return;
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  for (int i = 0;
       std::chrono::duration<double>(Clock::now() - start).count() < suite.options().soak_seconds;
       ++i) {
    suite.run(std::to_string(i),
              [&](Case& c, std::uint64_t seed) { run_case(c, arena, draw_case(seed)); });
  }
}

}  // namespace moeopt::gpu_test
