#include "gpu/rig.h"

namespace moeopt::gpu_test {
namespace {

template <typename T>
std::vector<T> rows_of(const std::vector<T>& all, const std::vector<std::int32_t>& rows,
                       int width) {
  std::vector<T> some;
  for (const std::int32_t row : rows) {
    const auto first = all.begin() + std::ptrdiff_t{1} * row * width;
    some.insert(some.end(), first, first + width);
  }
  return some;
}

}  // namespace

Rig::Rig(Arena& a, const moeopt_moe_desc& layer_desc, const BatchPlan& batch, std::uint64_t seed,
         Experts* given_experts)
    : arena(a), desc(layer_desc), layer(make_layer(layer_desc)) {
  if (given_experts == nullptr) own_experts.emplace(a, plain_experts(desc, seed), layer.get());
  experts = given_experts != nullptr ? given_experts : &*own_experts;
  inputs = make_inputs(a, desc, batch, batch.tokens, mix(seed, "batch"));
  outputs = make_outputs(a, desc, batch.tokens, batch.out_padding);
  workspace = make_workspace(a, layer.get());
}

Rig::Rig(Arena& a, Rig& whole, const std::vector<std::int32_t>& rows, int max_tokens,
         int tile_tokens)
    : arena(a), desc(whole.desc), experts(whole.experts), inputs(whole.inputs) {
  desc.max_tokens = max_tokens;
  desc.tile_tokens = tile_tokens;
  layer = make_layer(desc);
  const int n = static_cast<int>(rows.size());
  inputs.rows = inputs.capacity = n;
  inputs.x_stride = desc.hidden;
  inputs.x = a.take<Bf16Bits>(static_cast<std::size_t>(n) * static_cast<std::size_t>(desc.hidden));
  gather_rows(whole.inputs.x, whole.inputs.x_stride, a.upload(rows), n, desc.hidden, inputs.x,
              inputs.x_stride, a.stream().get());
  if (inputs.router == nullptr) {
    inputs.ids = rows_of(whole.inputs.ids, rows, desc.top_k);
    inputs.weights = rows_of(whole.inputs.weights, rows, desc.top_k);
    inputs.ids_device = a.upload(inputs.ids);
    inputs.weights_device = a.upload(inputs.weights);
  }
  outputs = make_outputs(a, desc, n, 0);
  workspace = make_workspace(a, layer.get());
}

void Rig::forward(const moeopt_moe_args& call, const Stream& stream) const {
  require_ok(moeopt_moe_forward(layer.get(), &call, stream.get()), "moeopt_moe_forward");
}

void Rig::poison_out() const {
  arena.poison(outputs.out, static_cast<std::size_t>(outputs.capacity) *
                                static_cast<std::size_t>(outputs.out_stride) * sizeof(Bf16Bits));
}

std::uint64_t Rig::differing(const Rig& other, int rows, const std::int32_t* other_rows) const {
  const Arena::Scope scope(arena);
  auto* const count = arena.upload(std::vector<std::uint64_t>(1));
  count_different(outputs.out, outputs.out_stride, other.outputs.out, other.outputs.out_stride,
                  other_rows, rows, desc.hidden, count, arena.stream().get());
  return arena.download(count, 1)[0];
}

}  // namespace moeopt::gpu_test
