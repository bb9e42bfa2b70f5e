#include "gpu/draw.h"

#include <algorithm>
#include <numeric>

namespace moeopt::gpu_test {
namespace {

constexpr int kLargest = 1024;          // of hidden and intermediate
constexpr double kWeightBytes = 300e6;  // of bf16 weights of a case, about
constexpr int kMostTokens = 700;

int draw_experts(Rng& rng) {
  return rng.chance(0.6)
             ? rng.pick({1, 2, 3, 4, 7, 8, 16, 31, 32, 33, 60, 64, 127, 128, 129, 160, 256, 512})
             : rng.between(1, 512);
}

int draw_top_k(int experts, Rng& rng) {
  const int most = std::min(experts, 16);
  return rng.chance(0.3) ? rng.pick({1, most}) : rng.between(1, most);
}

// The edges of tiles and of configurations, or anything.
int draw_tokens(Rng& rng) {
  return rng.chance(0.7)
             ? rng.pick({0,  1,  1,  2,  3,   4,   7,   8,   9,   15,  16,  17,  31,  32,
                         33, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 333, 512, 513})
             : rng.between(0, kMostTokens);
}

int draw_max_tokens(int tokens, Rng& rng) {
  switch (rng.below(4)) {
    case 0:
      return std::max(tokens, 1);
    case 1:
      return std::max(2 * tokens, 1);
    case 2:
      return std::max(tokens, rng.pick({8, 64, 512, 4096}));
    default:
      return tokens + rng.between(1, 300);
  }
}

void draw_router(moeopt_moe_desc& desc, BatchPlan& batch, Rng& rng) {
  desc.score = rng.pick({MOEOPT_SOFTMAX, MOEOPT_SIGMOID});
  desc.renormalise = rng.below(2);
  desc.renormalise_epsilon = rng.pick({0.0f, 0.0f, 1e-20f, 1e-2f});
  desc.scale = rng.pick({0.0f, 1.0f, 2.5f, 0.3f});
  batch.bias = rng.chance(0.4);
  std::vector<int> groups;  // that divide E and leave enough experts
  for (int g = 2; g <= 32; ++g) {
    if (desc.experts % g == 0) groups.push_back(g);
  }
  if (groups.empty() || !rng.chance(0.5)) return;
  desc.groups = groups[static_cast<std::size_t>(rng.below(static_cast<int>(groups.size())))];
  const int size = desc.experts / desc.groups;
  desc.top_k_groups = rng.between((desc.top_k + size - 1) / size, desc.groups);
  desc.group_score = size > 1 ? rng.pick({MOEOPT_GROUP_MAX, MOEOPT_GROUP_TOP2}) : MOEOPT_GROUP_MAX;
}

void draw_batch(const moeopt_moe_desc& desc, BatchPlan& batch, Rng& rng) {
  batch.device_tokens = rng.chance(0.4);
  batch.x_padding = rng.chance(0.4) ? 8 * rng.between(1, 5) : 0;
  batch.out_padding = rng.chance(0.4) ? 8 * rng.between(1, 5) : 0;
  batch.spread = rng.pick(
      {Spread::kUniform, Spread::kUniform, Spread::kZipf, Spread::kHot, Spread::kHalfEmpty});
  if (batch.given) {
    batch.repeat_ids = rng.chance(0.25);
    batch.absent_ids = rng.chance(0.25);
    batch.signed_weights = rng.chance(0.25);
    batch.poison_unused = rng.chance(0.6);
  }
  if (desc.slots != desc.experts || rng.chance(0.25)) {
    batch.expert_map = draw_map(desc.experts, desc.slots, rng);
  }
  batch.want_ids = rng.chance(0.5);
  batch.want_weights = rng.chance(0.5);
  batch.want_counts = rng.chance(0.5);
}

}  // namespace

int draw_tile(int max_tokens, Rng& rng) {
  return max_tokens <= 8 ? rng.pick({8, 32, 64, 128}) : rng.pick({32, 64, 128});
}

std::vector<std::int32_t> draw_map(int experts, int slots, Rng& rng) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(std::max(experts, slots)), -1);
  std::iota(order.begin(), order.begin() + slots, 0);
  rng.shuffle(order);
  order.resize(static_cast<std::size_t>(experts));
  return order;
}

ExpertsPlan plain_experts(const moeopt_moe_desc& desc, std::uint64_t seed) {
  ExpertsPlan plan;
  plan.hidden = desc.hidden;
  plan.intermediate = desc.intermediate;
  plan.shared_intermediate = desc.shared_intermediate;
  plan.slots = desc.slots;
  plan.fp8 = desc.dtype == MOEOPT_FP8;
  plan.source = plan.fp8 ? MOEOPT_SOURCE_FP8 : MOEOPT_SOURCE_BF16;
  plan.seed = seed;
  return plan;
}

CasePlan draw_case(std::uint64_t seed) {
  Rng rng(seed);
  CasePlan plan;
  plan.seed = seed;
  moeopt_moe_desc& desc = plan.desc;
  desc.struct_size = sizeof(desc);
  desc.dtype = rng.pick({MOEOPT_BF16, MOEOPT_FP8});
  const int unit = desc.dtype == MOEOPT_FP8 ? 128 : 64;
  desc.hidden = unit * rng.between(1, kLargest / unit);
  desc.intermediate = unit * rng.between(1, kLargest / unit);
  desc.experts = draw_experts(rng);
  desc.top_k = draw_top_k(desc.experts, rng);
  // Fewer or more slots than experts now and then; the map then says where each is.
  desc.slots = rng.chance(0.7) ? desc.experts : rng.between(1, std::min(desc.experts + 8, 512));
  while (desc.intermediate > unit &&
         6.0 * desc.slots * desc.hidden * desc.intermediate > kWeightBytes) {
    desc.intermediate = std::max(unit, desc.intermediate / 2 / unit * unit);
  }
  plan.batch.tokens = draw_tokens(rng);
  desc.max_tokens = draw_max_tokens(plan.batch.tokens, rng);
  plan.batch.given = rng.chance(0.35);
  if (!plan.batch.given) draw_router(desc, plan.batch, rng);
  if (rng.chance(0.35)) {
    desc.shared_intermediate = unit * rng.between(1, kLargest / unit);
    desc.shared_gate = rng.below(2);
  }
  draw_batch(desc, plan.batch, rng);
  if (rng.chance(0.3)) desc.tile_tokens = draw_tile(desc.max_tokens, rng);

  plan.experts = plain_experts(desc, mix(seed, "weights"));
  if (plan.experts.fp8 && rng.chance(0.4)) plan.experts.source = MOEOPT_SOURCE_BF16_TO_FP8;
  plan.experts.row_padding = rng.chance(0.3) ? 16 * rng.between(1, 3) : 0;
  plan.experts.expert_padding = rng.chance(0.3) ? 128 * rng.between(1, 3) : 0;
  plan.experts.moved = rng.chance(0.3);
  return plan;
}

CasePlan draw_prefill_case(std::uint64_t seed) {
  CasePlan plan = draw_case(seed);
  Rng rng(mix(seed, "prefill"));
  const int unit = plan.desc.dtype == MOEOPT_FP8 ? 128 : 64;
  plan.desc.hidden = unit * rng.between(1, 1024 / unit);
  plan.desc.intermediate = unit * rng.between(1, 1024 / unit);
  plan.desc.shared_intermediate = std::min(plan.desc.shared_intermediate, 1024);
  const int most = rng.pick({1024, 2048, 4096, 8192, 16384});
  // At and beside whole tiles as often as anywhere.
  plan.batch.tokens = rng.chance(0.5) ? most - rng.between(0, 1) : rng.between(most / 2, most);
  plan.desc.max_tokens = rng.chance(0.5) ? plan.batch.tokens : most;
  if (plan.desc.tile_tokens == 8) plan.desc.tile_tokens = 0;
  const ExpertsPlan drawn = plan.experts;
  plan.experts = plain_experts(plan.desc, drawn.seed);
  plan.experts.source = drawn.source;
  plan.experts.row_padding = drawn.row_padding;
  plan.experts.expert_padding = drawn.expert_padding;
  plan.experts.moved = drawn.moved;
  return plan;
}

}  // namespace moeopt::gpu_test
