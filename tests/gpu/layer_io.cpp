#include "gpu/layer_io.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace moeopt::gpu_test {
namespace {

// x[:, 0] is this number, so that column 0 of the router adds an offset to an expert's logit.
constexpr float kOffsetInput = 4.0f;
constexpr double kFarOffset = 12;  // beyond any of a thousand normal logits

std::size_t elements(std::int64_t rows, std::int64_t cols) {
  return static_cast<std::size_t>(rows * cols);
}

// What is added to each expert's logit to give the spread.
std::vector<double> offsets_of(Spread spread, int experts, Rng& rng) {
  std::vector<double> offsets(static_cast<std::size_t>(experts));
  if (spread == Spread::kHot) {
    offsets[static_cast<std::size_t>(rng.below(experts))] = kFarOffset;
  } else if (spread == Spread::kHalfEmpty) {
    for (double& offset : offsets) offset = rng.chance(0.5) ? -kFarOffset : 0;
  } else if (spread == Spread::kZipf) {
    for (int e = 0; e < experts; ++e) offsets[static_cast<std::size_t>(e)] = -std::log(e + 1.0);
    rng.shuffle(offsets);
  }
  return offsets;
}

// k distinct experts a row, the best by offset + Gumbel noise: drawn without putting back.
std::vector<std::int32_t> draw_ids(int rows, int experts, int top_k,
                                   const std::vector<double>& offsets, Rng& rng) {
  std::vector<std::int32_t> ids;
  ids.reserve(elements(rows, top_k));
  std::vector<std::pair<double, std::int32_t>> keys(static_cast<std::size_t>(experts));
  for (int r = 0; r < rows; ++r) {
    for (int e = 0; e < experts; ++e) {
      const double noise = -std::log(-std::log(rng.uniform(1e-12, 1)));
      keys[static_cast<std::size_t>(e)] = {-(offsets[static_cast<std::size_t>(e)] + noise), e};
    }
    std::partial_sort(keys.begin(), keys.begin() + top_k, keys.end());
    for (int s = 0; s < top_k; ++s) ids.push_back(keys[static_cast<std::size_t>(s)].second);
  }
  return ids;
}

void give_routes(Arena& arena, const moeopt_moe_desc& desc, const BatchPlan& plan, Rng& rng,
                 const std::vector<double>& offsets, Inputs& inputs) {
  inputs.ids = draw_ids(plan.tokens, desc.experts, desc.top_k, offsets, rng);
  for (std::size_t i = 0; i < inputs.ids.size(); ++i) {
    const std::size_t row_start = i - i % static_cast<std::size_t>(desc.top_k);
    if (plan.repeat_ids && rng.chance(0.3)) {
      inputs.ids[i] = inputs.ids[row_start + static_cast<std::size_t>(rng.below(desc.top_k))];
    }
    if (plan.absent_ids && rng.chance(0.2)) inputs.ids[i] = -1;
    const double weight = rng.uniform(0.05, 1);
    inputs.weights.push_back(
        static_cast<float>(plan.signed_weights && rng.chance(0.5) ? -weight : weight));
  }
  // Rows beyond T exist as those of x do.
  const std::size_t all = elements(inputs.capacity, desc.top_k);
  inputs.ids_device = arena.take<std::int32_t>(all);
  inputs.weights_device = arena.take<float>(all);
  arena.copy_in(inputs.ids_device, inputs.ids.data(), inputs.ids.size() * sizeof(std::int32_t));
  arena.copy_in(inputs.weights_device, inputs.weights.data(),
                inputs.weights.size() * sizeof(float));
}

void make_router(Arena& arena, const moeopt_moe_desc& desc, const BatchPlan& plan, Rng& rng,
                 const std::vector<double>& offsets, Inputs& inputs) {
  const cudaStream_t stream = arena.stream().get();
  inputs.router = arena.take<Bf16Bits>(elements(desc.experts, desc.hidden));
  fill_bf16(inputs.router, desc.experts, desc.hidden, desc.hidden,
            1.0f / std::sqrt(static_cast<float>(desc.hidden)), rng.bits(), stream);
  if (plan.spread != Spread::kUniform) {
    const Arena::Scope scope(arena);
    std::vector<float> column;
    column.reserve(offsets.size());
    for (const double offset : offsets) column.push_back(static_cast<float>(offset) / kOffsetInput);
    set_column(inputs.router, desc.hidden, arena.upload(column), desc.experts, stream);
    set_column(
        inputs.x, inputs.x_stride,
        arena.upload(std::vector<float>(static_cast<std::size_t>(plan.tokens), kOffsetInput)),
        plan.tokens, stream);
    arena.stream().wait();
  }
  if (plan.bias) {
    // About as large as the scores, which sum to one or lie around a half.
    const double size = desc.score == MOEOPT_SIGMOID ? 0.3 : 1.5 / desc.experts;
    for (int e = 0; e < desc.experts; ++e) {
      inputs.bias.push_back(static_cast<float>(rng.uniform(-size, size)));
    }
    inputs.bias_device = arena.upload(inputs.bias);
  }
}

}  // namespace

Inputs make_inputs(Arena& arena, const moeopt_moe_desc& desc, const BatchPlan& plan, int capacity,
                   std::uint64_t seed) {
  Rng rng(seed);
  const cudaStream_t stream = arena.stream().get();
  Inputs inputs;
  inputs.rows = plan.tokens;
  inputs.capacity = capacity;
  inputs.x_stride = desc.hidden + plan.x_padding;
  inputs.x = arena.take<Bf16Bits>(elements(capacity, inputs.x_stride));
  fill_bf16(inputs.x, plan.tokens, desc.hidden, inputs.x_stride, 1.0f, rng.bits(), stream);
  const std::vector<double> offsets = offsets_of(plan.spread, desc.experts, rng);
  if (plan.given) {
    give_routes(arena, desc, plan, rng, offsets, inputs);
  } else {
    make_router(arena, desc, plan, rng, offsets, inputs);
  }
  if (desc.shared_gate != 0) {
    inputs.shared_gate = arena.take<Bf16Bits>(static_cast<std::size_t>(desc.hidden));
    fill_bf16(inputs.shared_gate, 1, desc.hidden, desc.hidden,
              1.0f / std::sqrt(static_cast<float>(desc.hidden)), rng.bits(), stream);
  }
  inputs.map = plan.expert_map;
  if (!inputs.map.empty()) inputs.map_device = arena.upload(inputs.map);
  return inputs;
}

Outputs make_outputs(Arena& arena, const moeopt_moe_desc& desc, int capacity, int padding) {
  Outputs outputs;
  outputs.capacity = capacity;
  outputs.out_stride = desc.hidden + padding;
  outputs.out = arena.take<Bf16Bits>(elements(capacity, outputs.out_stride));
  outputs.ids = arena.take<std::int32_t>(elements(capacity, desc.top_k));
  outputs.weights = arena.take<float>(elements(capacity, desc.top_k));
  outputs.counts = arena.take<std::int32_t>(
      static_cast<std::size_t>(desc.slots == 0 ? desc.experts : desc.slots));
  return outputs;
}

void* make_workspace(Arena& arena, const moeopt_moe* layer) {
  auto* const workspace =
      arena.take<unsigned char>(static_cast<std::size_t>(sizes_of(layer).workspace_bytes), 128);
  require_ok(moeopt_moe_init_workspace(layer, workspace, arena.stream().get()),
             "moeopt_moe_init_workspace");
  return workspace;
}

moeopt_moe_args make_args(const Experts& experts, const Inputs& inputs, const Outputs& outputs,
                          void* workspace, int tokens) {
  const int hidden = experts.plan().hidden;
  // Dense rows show the default.
  const auto stride = [hidden](std::int64_t s) { return s == hidden ? 0 : s; };
  moeopt_moe_args args{};
  args.struct_size = sizeof(args);
  args.tokens = tokens;
  args.x = inputs.x;
  args.x_stride = stride(inputs.x_stride);
  args.out = outputs.out;
  args.out_stride = stride(outputs.out_stride);
  args.experts = experts.packed();
  args.expert_stride = experts.plan().expert_padding == 0 ? 0 : experts.stride();
  args.shared = experts.packed_shared();
  args.router = inputs.router;
  args.correction_bias = inputs.bias_device;
  args.shared_gate = inputs.shared_gate;
  args.ids = inputs.ids_device;
  args.weights = inputs.weights_device;
  args.expert_map = inputs.map_device;
  args.out_ids = outputs.ids;
  args.out_weights = outputs.weights;
  args.out_counts = outputs.counts;
  args.workspace = workspace;
  return args;
}

moeopt_moe_counters read_counters(const Arena& arena, const void* workspace) {
  return arena.download(static_cast<const moeopt_moe_counters*>(workspace), 1)[0];
}

std::string text_of(const moeopt_moe_counters& c) {
  return fmt::format("launches {}, tokens {}, rows {}, nan_tokens {}, errors {}", c.launches,
                     c.tokens, c.rows, c.nan_tokens, c.errors);
}

std::string text_of(const moeopt_moe_desc& d, const BatchPlan& plan) {
  constexpr const char* kSpreads[] = {"uniform", "zipf", "hot", "half-empty"};
  std::string text = fmt::format("{} H={} I={} E={} k={} slots={} T={} of {} {}",
                                 d.dtype == MOEOPT_FP8 ? "fp8" : "bf16", d.hidden, d.intermediate,
                                 d.experts, d.top_k, d.slots, plan.tokens, d.max_tokens,
                                 kSpreads[static_cast<int>(plan.spread)]);
  if (d.shared_intermediate > 0) {
    text += fmt::format(" shared={}{}", d.shared_intermediate, d.shared_gate != 0 ? " gated" : "");
  }
  if (plan.given) {
    text += " given";
    if (plan.repeat_ids) text += " repeated";
    if (plan.absent_ids) text += " absent";
    if (plan.signed_weights) text += " signed";
    if (plan.poison_unused) text += " poisoned";
  } else {
    text += d.score == MOEOPT_SIGMOID ? " sigmoid" : " softmax";
    if (plan.bias) text += " bias";
    if (d.groups > 1) {
      text += fmt::format(" groups={}/{}{}", d.top_k_groups, d.groups,
                          d.group_score == MOEOPT_GROUP_TOP2 ? " top2" : "");
    }
    if (d.renormalise != 0) text += fmt::format(" renorm+{:g}", d.renormalise_epsilon);
    if (d.scale != 0 && d.scale != 1) text += fmt::format(" x{:g}", d.scale);
  }
  if (!plan.expert_map.empty()) text += " map";
  if (plan.device_tokens) text += " T-on-device";
  return text + fmt::format(" x+{} out+{}", plan.x_padding, plan.out_padding);
}

}  // namespace moeopt::gpu_test
