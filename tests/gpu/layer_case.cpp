#include "gpu/layer_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace moeopt::gpu_test {
namespace {

constexpr Bf16Bits kPoisonBf16 = 0xffff;

void forward(const moeopt_moe* layer, const moeopt_moe_args& args, Arena& arena) {
  require_ok(moeopt_moe_forward(layer, &args, arena.stream().get()), "moeopt_moe_forward");
  arena.stream().wait();
}

// Sum over everything that a forward call may only read.
std::uint64_t hash_inputs(Arena& arena, const Inputs& inputs, const Experts& experts) {
  const Arena::Scope scope(arena);
  auto* const sum = arena.upload(std::vector<std::uint64_t>(1));
  const auto rows = static_cast<std::size_t>(inputs.capacity);
  const cudaStream_t stream = arena.stream().get();
  add_hash(inputs.x, rows * static_cast<std::size_t>(inputs.x_stride) * sizeof(Bf16Bits), sum,
           stream);
  if (inputs.ids_device != nullptr) {
    add_hash(inputs.ids_device, inputs.ids.size() * sizeof(std::int32_t), sum, stream);
    add_hash(inputs.weights_device, inputs.weights.size() * sizeof(float), sum, stream);
  }
  if (inputs.map_device != nullptr) {
    add_hash(inputs.map_device, inputs.map.size() * sizeof(std::int32_t), sum, stream);
  }
  return arena.download(sum, 1)[0] + experts.hash();
}

// Elements of `out` that a launch of `tokens` rows had no business to write.
std::uint64_t written_outside(Arena& arena, const Outputs& outputs, int tokens, int hidden) {
  const Arena::Scope scope(arena);
  auto* const count = arena.upload(std::vector<std::uint64_t>(1));
  count_outside(outputs.out, outputs.out_stride, outputs.capacity, tokens, hidden, kPoisonBf16,
                count, arena.stream().get());
  return arena.download(count, 1)[0];
}

std::uint64_t differing(Arena& arena, const Outputs& a, const Outputs& b, int rows, int hidden) {
  const Arena::Scope scope(arena);
  auto* const count = arena.upload(std::vector<std::uint64_t>(1));
  count_different(a.out, a.out_stride, b.out, b.out_stride, nullptr, rows, hidden, count,
                  arena.stream().get());
  return arena.download(count, 1)[0];
}

void poison_unused(const Inputs& inputs, Experts& experts) {
  std::vector<bool> used(static_cast<std::size_t>(experts.plan().slots));
  for (const std::int32_t id : inputs.ids) {
    if (inputs.slot_of(id) >= 0) used[static_cast<std::size_t>(inputs.slot_of(id))] = true;
  }
  for (int slot = 0; slot < experts.plan().slots; ++slot) {
    if (!used[static_cast<std::size_t>(slot)]) experts.poison(slot);
  }
}

// A launch of other tokens. Returns the rows it multiplied.
std::uint64_t run_prelude(Arena& arena, const moeopt_moe* layer, const CasePlan& plan,
                          const Experts& experts, void* workspace, int tokens) {
  BatchPlan batch = plan.batch;
  batch.tokens = tokens;
  const Inputs inputs = make_inputs(arena, plan.desc, batch, tokens, mix(plan.seed, "prelude"));
  const Outputs outputs = make_outputs(arena, plan.desc, tokens, 0);
  forward(layer, make_args(experts, inputs, outputs, workspace, tokens), arena);
  const std::size_t slots =
      static_cast<std::size_t>(tokens) * static_cast<std::size_t>(plan.desc.top_k);
  return rows_of_ids(inputs, arena.download(outputs.ids, slots), plan.desc.top_k);
}

}  // namespace

void run_case(Case& c, Arena& arena, const CasePlan& plan, Experts* given_experts) {
  c.describe(text_of(plan.desc, plan.batch));
  const Arena::Scope scope(arena);
  const moeopt_moe_desc& desc = plan.desc;
  const BatchPlan& batch = plan.batch;
  const int tokens = batch.tokens;
  const LayerHandle layer = make_layer(desc);
  std::optional<Experts> own;
  if (given_experts == nullptr) own.emplace(arena, plan.experts, layer.get());
  Experts& experts = given_experts != nullptr ? *given_experts : *own;

  // With T on the device the caller has buffers for any T.
  const int capacity = batch.device_tokens ? desc.max_tokens : tokens;
  const Inputs inputs = make_inputs(arena, desc, batch, capacity, mix(plan.seed, "batch"));
  if (batch.poison_unused) poison_unused(inputs, experts);
  const Outputs outputs = make_outputs(arena, desc, capacity, batch.out_padding);
  const Outputs recorded = make_outputs(arena, desc, capacity, batch.out_padding);
  void* const workspace = make_workspace(arena, layer.get());
  const std::uint64_t hash = hash_inputs(arena, inputs, experts);

  Rng rng(mix(plan.seed, "case"));
  const int prelude_tokens = rng.below(std::min(desc.max_tokens, tokens + 40) + 1);
  const std::uint64_t prelude_rows =
      run_prelude(arena, layer.get(), plan, experts, workspace, prelude_tokens);

  moeopt_moe_args args = make_args(experts, inputs, outputs, workspace, tokens);
  if (batch.device_tokens) {
    args.tokens_device = arena.upload(std::vector<std::int32_t>{tokens});
    args.tokens = -1;  // ignored
  }
  if (!batch.want_ids) args.out_ids = nullptr;
  if (!batch.want_weights) args.out_weights = nullptr;
  if (!batch.want_counts) args.out_counts = nullptr;
  forward(layer.get(), args, arena);
  args.out = recorded.out;
  args.out_ids = recorded.ids;
  args.out_weights = recorded.weights;
  args.out_counts = recorded.counts;
  forward(layer.get(), args, arena);

  c.expect(hash_inputs(arena, inputs, experts) == hash, "wrote to its inputs");
  for (const Outputs* o : {&outputs, &recorded}) {
    const std::uint64_t outside = written_outside(arena, *o, tokens, desc.hidden);
    c.expect(outside == 0, fmt::format("wrote {} elements of out outside its rows", outside));
  }
  const std::uint64_t different = differing(arena, outputs, recorded, tokens, desc.hidden);
  c.expect(different == 0, fmt::format("{} values differ between two runs", different));
  const Expected expected =
      judge_launch(c, arena, desc, experts, inputs, recorded, tokens, workspace);

  const moeopt_moe_counters counters = read_counters(arena, workspace);
  const auto t = static_cast<std::uint64_t>(tokens);
  const bool counted = counters.launches == 3 && counters.errors == 0 &&
                       counters.tokens == 2 * t + static_cast<std::uint64_t>(prelude_tokens) &&
                       counters.rows == 2 * expected.rows + prelude_rows &&
                       counters.nan_tokens == 2 * expected.nan_tokens;
  c.expect(counted,
           fmt::format("counters: {}; of 3 launches, {} and twice {} tokens, {} and twice {} rows",
                       text_of(counters), prelude_tokens, tokens, prelude_rows, expected.rows));
  const std::uint64_t damaged = arena.damaged_bytes();
  c.expect(damaged == 0, fmt::format("wrote {} bytes beyond a buffer", damaged));
}

}  // namespace moeopt::gpu_test
