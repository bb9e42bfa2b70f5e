#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

#include "moe_layer/layer.h"
#include "moe_layer/random_fill.cuh"

namespace moeopt::bench {
namespace {

constexpr std::uint64_t kExpertSeed = 1000;  // three a expert from here on
constexpr std::uint64_t kSharedGateSeed = 5;
constexpr std::uint64_t kTokenSeed = 6;

__nv_bfloat16 rounded(float value) {
  return __float2bfloat16(value);
}

// The weights of the chosen experts, as the router must make them of its logits.
std::vector<float> softmax_of(const std::vector<float>& logits, const std::vector<int>& ids,
                              bool renormalise) {
  double all = 0, chosen = 0;
  for (const float logit : logits) all += std::exp(double{logit});
  for (const int id : ids) chosen += std::exp(double{logits[id]});
  std::vector<float> weights;
  for (const int id : ids) {
    weights.push_back(
        static_cast<float>(std::exp(double{logits[id]}) / (renormalise ? chosen : all)));
  }
  return weights;
}

}  // namespace

void check(moeopt_status status) {
  if (status != MOEOPT_OK) throw std::runtime_error(moeopt_last_error());
}

LayerHandle make_layer(const LayerShape& shape, DType dtype, int max_tokens, int tile_tokens) {
  moeopt_moe_desc desc{};
  desc.struct_size = sizeof desc;
  desc.hidden = shape.hidden;
  desc.intermediate = shape.intermediate;
  desc.experts = shape.experts;
  desc.top_k = shape.top_k;
  desc.max_tokens = max_tokens;
  desc.dtype = dtype == DType::kBf16 ? MOEOPT_BF16 : MOEOPT_FP8;
  desc.score = MOEOPT_SOFTMAX;
  desc.renormalise = shape.renormalise ? 1 : 0;
  desc.shared_intermediate = shape.shared_intermediate;
  desc.shared_gate = shape.shared_gate ? 1 : 0;
  desc.tile_tokens = tile_tokens;
  moeopt_moe* layer = nullptr;
  check(moeopt_moe_create(&desc, &layer));
  return LayerHandle(layer);
}

moeopt_moe_sizes sizes_of(const moeopt_moe* layer) {
  moeopt_moe_sizes sizes{};
  sizes.struct_size = sizeof sizes;
  check(moeopt_moe_get_sizes(layer, &sizes));
  return sizes;
}

SourceExpert::SourceExpert(int hidden_size, int intermediate_size)
    : gate(device_array<__nv_bfloat16>(std::size_t{1} * hidden_size * intermediate_size)),
      up(device_array<__nv_bfloat16>(std::size_t{1} * hidden_size * intermediate_size)),
      down(device_array<__nv_bfloat16>(std::size_t{1} * hidden_size * intermediate_size)),
      hidden(hidden_size),
      intermediate(intermediate_size) {}

void SourceExpert::fill(int expert, cudaStream_t stream) {
  const std::size_t count = std::size_t{1} * hidden * intermediate;
  const std::uint64_t seed = kExpertSeed + 3 * (expert + 1);
  const float in = 1.0f / std::sqrt(static_cast<float>(hidden));
  launch_random_normal(gate.get(), count, in, seed, stream);
  launch_random_normal(up.get(), count, in, seed + 1, stream);
  launch_random_normal(down.get(), count, 1.0f / std::sqrt(static_cast<float>(intermediate)),
                       seed + 2, stream);
}

Weights::Weights(const LayerShape& shape, DType dtype, int copies) : shape_(shape) {
  const LayerHandle layer = make_layer(shape, dtype, 1);
  sizes_ = sizes_of(layer.get());
  const std::size_t copy_bytes = shape.experts * sizes_.expert_bytes;
  experts_ = device_array<unsigned char>(copies * copy_bytes);
  const auto pack = [&](SourceExpert& source, int expert, unsigned char* packed) {
    source.fill(expert, nullptr);
    moeopt_expert_source from{};
    from.struct_size = sizeof from;
    from.source = dtype == DType::kBf16 ? MOEOPT_SOURCE_BF16 : MOEOPT_SOURCE_BF16_TO_FP8;
    from.gate = source.gate.get();
    from.up = source.up.get();
    from.down = source.down.get();
    check(expert < 0 ? moeopt_moe_pack_shared(layer.get(), &from, packed, nullptr)
                     : moeopt_moe_pack_expert(layer.get(), &from, packed, nullptr));
  };
  SourceExpert routed(shape.hidden, shape.intermediate);
  for (int e = 0; e < shape.experts; ++e) {
    pack(routed, e, experts_.get() + e * sizes_.expert_bytes);
  }
  for (int copy = 1; copy < copies; ++copy) {
    check(cudaMemcpyAsync(experts_.get() + copy * copy_bytes, experts_.get(), copy_bytes,
                          cudaMemcpyDeviceToDevice, nullptr));
  }
  if (shape.shared_intermediate > 0) {
    shared_ = device_array<unsigned char>(copies * sizes_.shared_bytes);
    SourceExpert source(shape.hidden, shape.shared_intermediate);
    for (int copy = 0; copy < copies; ++copy) {
      pack(source, -1, shared_.get() + copy * sizes_.shared_bytes);
    }
    check(cudaDeviceSynchronize());  // before `source` goes
  }
  if (shape.shared_gate) {
    shared_gate_ = device_array<__nv_bfloat16>(shape.hidden);
    launch_random_normal(shared_gate_.get(), shape.hidden,
                         1.0f / std::sqrt(static_cast<float>(shape.hidden)), kSharedGateSeed,
                         nullptr);
  }
  check(cudaDeviceSynchronize());
}

const unsigned char* Weights::experts(int copy) const {
  return experts_.get() + copy * (shape_.experts * sizes_.expert_bytes);
}

const unsigned char* Weights::shared(int copy) const {
  return shared_ ? shared_.get() + copy * sizes_.shared_bytes : nullptr;
}

Calls::Calls(const LayerShape& shape, DType dtype, const Weights& weights, const Routing& routing,
             int tokens, const Room& room, bool given_ids)
    : shape_(shape),
      dtype_(dtype),
      weights_(weights),
      routing_(routing),
      tokens_(tokens),
      pieces_(cut(tokens, room.pieces)),
      max_tokens_(std::max(1, room.max_tokens > 0 ? room.max_tokens : pieces_[0].tokens)),
      given_ids_(given_ids),
      tokens_on_device_(room.on_device),
      layer_(make_layer(shape, dtype, max_tokens_, room.tile_tokens)) {
  const moeopt_moe_sizes sizes = sizes_of(layer_.get());
  if (sizes.expert_bytes != weights.sizes().expert_bytes) {
    throw std::runtime_error("the packed layout depends on max_tokens");
  }
  const std::size_t x_count = std::size_t{1} * tokens * shape.hidden;
  const std::size_t router_count = std::size_t{1} * shape.experts * shape.hidden;
  x_ = device_array<__nv_bfloat16>(count() * x_count);
  out_ = device_array<__nv_bfloat16>(count() * x_count);
  router_ = device_array<__nv_bfloat16>(count() * router_count);
  ids_ = device_array<int>(std::size_t{1} * count() * tokens * shape.top_k);
  id_weights_ = device_array<float>(std::size_t{1} * count() * tokens * shape.top_k);
  tokens_device_ = device_array<int>(1);
  workspace_ = device_array<unsigned char>(sizes.workspace_bytes);
  bytes_read_ = device_array<unsigned long long>(1);
  check(cudaMemset(bytes_read_.get(), 0, sizeof(unsigned long long)));
  check(cudaMemcpy(tokens_device_.get(), &tokens, sizeof tokens, cudaMemcpyHostToDevice));
  check(moeopt_moe_init_workspace(layer_.get(), workspace_.get(), nullptr));
  plant();
  check(cudaDeviceSynchronize());
}

std::vector<Calls::Piece> Calls::cut(int tokens, int pieces) {
  const int most = (tokens + pieces - 1) / pieces;
  std::vector<Piece> list{{0, most}};
  for (int first = most; first < tokens; first += most) {
    list.push_back({first, std::min(most, tokens - first)});
  }
  return list;
}

// Router rows are one-hot on the first E coordinates of x, which hold 1 .. 2 for the chosen experts
// and -1 .. 0 for the others.
void Calls::plant() {
  const int H = shape_.hidden, E = shape_.experts, k = shape_.top_k;
  std::vector<__nv_bfloat16> router(std::size_t{1} * E * H, rounded(0));
  for (int e = 0; e < E; ++e) router[std::size_t{1} * e * H + e] = rounded(1);
  launch_random_normal(x_.get(), std::size_t{1} * count() * tokens_ * H, 1.0f, kTokenSeed, nullptr);
  check(cudaDeviceSynchronize());
  std::mt19937 random(kTokenSeed);
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  for (int c = 0; c < count(); ++c) {
    check(cudaMemcpy(router_.get() + c * router.size(), router.data(),
                     router.size() * sizeof router[0], cudaMemcpyHostToDevice));
    std::vector<__nv_bfloat16> planted(std::size_t{1} * tokens_ * E);
    std::vector<float> weights;
    planned_.emplace_back();
    for (int t = 0; t < tokens_; ++t) {
      PlannedToken token;
      const auto first = routing_.calls[c].ids.begin() + t * k;
      token.ids.assign(first, first + k);
      std::vector<float> logits(E);
      for (int e = 0; e < E; ++e) {
        const bool chosen = std::find(token.ids.begin(), token.ids.end(), e) != token.ids.end();
        planted[std::size_t{1} * t * E + e] = rounded(unit(random) + (chosen ? 1.0f : -1.0f));
        logits[e] = __bfloat162float(planted[std::size_t{1} * t * E + e]);
      }
      token.weights = softmax_of(logits, token.ids, shape_.renormalise);
      weights.insert(weights.end(), token.weights.begin(), token.weights.end());
      planned_.back().push_back(std::move(token));
    }
    if (tokens_ == 0) continue;
    check(cudaMemcpy2D(x_.get() + std::size_t{1} * c * tokens_ * H, H * sizeof planted[0],
                       planted.data(), E * sizeof planted[0], E * sizeof planted[0], tokens_,
                       cudaMemcpyHostToDevice));
    check(cudaMemcpy(ids_.get() + std::size_t{1} * c * tokens_ * k, routing_.calls[c].ids.data(),
                     tokens_ * k * sizeof(int), cudaMemcpyHostToDevice));
    check(cudaMemcpy(id_weights_.get() + std::size_t{1} * c * tokens_ * k, weights.data(),
                     tokens_ * k * sizeof(float), cudaMemcpyHostToDevice));
  }
}

moeopt_moe_args Calls::args(int call, const Piece& piece) const {
  const int copy = routing_.calls[call].copy;
  const std::size_t row = std::size_t{1} * call * tokens_ + piece.first;
  moeopt_moe_args args{};
  args.struct_size = sizeof args;
  args.tokens = piece.tokens;
  if (tokens_on_device_) args.tokens_device = tokens_device_.get();
  args.x = x_.get() + row * shape_.hidden;
  args.out = out_.get() + row * shape_.hidden;
  args.experts = weights_.experts(copy);
  args.shared = weights_.shared(copy);
  args.shared_gate = weights_.shared_gate();
  if (given_ids_) {
    args.ids = ids_.get() + row * shape_.top_k;
    args.weights = id_weights_.get() + row * shape_.top_k;
  } else {
    args.router = router_.get() + std::size_t{1} * call * shape_.experts * shape_.hidden;
  }
  args.workspace = workspace_.get();
  return args;
}

void Calls::forward(int call, cudaStream_t stream) {
  for (const Piece& piece : pieces_) {
    const moeopt_moe_args own = args(call, piece);
    check(moeopt_moe_forward(layer_.get(), &own, stream));
  }
}

StreamJob Calls::stream_job(int call) const {
  const Call& planned = routing_.calls[call];
  StreamJob job;
  job.experts = weights_.experts(planned.copy);
  job.expert_stride = job.expert_bytes = weights_.sizes().expert_bytes;
  job.count = static_cast<int>(planned.distinct.size());
  std::copy(planned.distinct.begin(), planned.distinct.end(), job.slots);
  if (shape_.shared_intermediate > 0 && tokens_ > 0) {
    job.extra = weights_.shared(planned.copy);
    job.extra_bytes = weights_.sizes().shared_bytes;
  }
  job.bytes_read = bytes_read_.get();
  return job;
}

double Calls::weight_bytes() const {
  double bytes = 0;
  for (int c = 0; c < count(); ++c) bytes += static_cast<double>(stream_bytes(stream_job(c)));
  return bytes / count();
}

}  // namespace moeopt::bench
