#include "gpu/experts.h"

#include <cmath>

namespace moeopt::gpu_test {
namespace {

constexpr int kFp8Block = 128;
// e4m3 sources: normal codes of this spread fill the format's range; scales differ from block to
// block by up to this factor either way, so that a wrong block's scale shows.
constexpr float kCodeSpread = 100.0f;
constexpr float kScaleFactor = 2.0f;

std::size_t elements(int count, int rows, std::int64_t stride) {
  return static_cast<std::size_t>(count) * static_cast<std::size_t>(rows) *
         static_cast<std::size_t>(stride);
}

}  // namespace

void require_ok(moeopt_status status, const char* call) {
  if (status != MOEOPT_OK) {
    throw Refused(std::string(call) + " returned " + std::to_string(status) + ": " +
                  moeopt_last_error());
  }
}

LayerHandle make_layer(const moeopt_moe_desc& desc) {
  moeopt_moe* layer = nullptr;
  require_ok(moeopt_moe_create(&desc, &layer), "moeopt_moe_create");
  return LayerHandle(layer);
}

moeopt_moe_sizes sizes_of(const moeopt_moe* layer) {
  moeopt_moe_sizes sizes{};
  sizes.struct_size = sizeof(sizes);
  require_ok(moeopt_moe_get_sizes(layer, &sizes), "moeopt_moe_get_sizes");
  return sizes;
}

Experts::Experts(Arena& arena, const ExpertsPlan& plan, const moeopt_moe* layer)
    : arena_(arena), plan_(plan) {
  const moeopt_moe_sizes sizes = sizes_of(layer);
  const cudaStream_t stream = arena.stream().get();
  expert_bytes_ = sizes.expert_bytes;
  shared_bytes_ = sizes.shared_bytes;
  stride_ = expert_bytes_ + static_cast<std::uint64_t>(plan.expert_padding);
  reference_.hidden = plan.hidden;
  reference_.fp8 = plan.fp8;
  reference_.experts = make_set(plan.slots, plan.intermediate, mix(plan.seed, "experts"), source_);
  packed_ = arena.take<unsigned char>(
      static_cast<std::size_t>(stride_ * static_cast<std::uint64_t>(plan.slots - 1) +
                               expert_bytes_),
      128);
  auto* const elsewhere =
      plan.moved ? arena.take<unsigned char>(static_cast<std::size_t>(expert_bytes_), 128)
                 : nullptr;
  for (int slot = 0; slot < plan.slots; ++slot) {
    unsigned char* const place = packed_ + static_cast<std::uint64_t>(slot) * stride_;
    const moeopt_expert_source source = source_of(source_, slot);
    require_ok(moeopt_moe_pack_expert(layer, &source, plan.moved ? elsewhere : place, stream),
               "moeopt_moe_pack_expert");
    if (plan.moved) {
      check(cudaMemcpyAsync(place, elsewhere, expert_bytes_, cudaMemcpyDeviceToDevice, stream),
            "move an expert");
    }
  }
  if (plan.shared_intermediate > 0) {
    reference_.shared =
        make_set(1, plan.shared_intermediate, mix(plan.seed, "shared"), shared_source_);
    packed_shared_ = arena.take<unsigned char>(static_cast<std::size_t>(shared_bytes_), 128);
    const moeopt_expert_source source = source_of(shared_source_, 0);
    require_ok(moeopt_moe_pack_shared(layer, &source, packed_shared_, stream),
               "moeopt_moe_pack_shared");
  }
}

// The matrices as the reference reads them; `source` as they are packed from.
MatrixSet Experts::make_matrices(int count, int rows, int cols, std::uint64_t seed,
                                 MatrixSet& source) {
  const std::int64_t stride = cols + plan_.row_padding;
  const cudaStream_t stream = arena_.stream().get();
  const float spread = 1.0f / std::sqrt(static_cast<float>(cols));
  const std::int64_t all_rows = std::int64_t{1} * count * rows;
  const std::size_t scales = elements(count, rows / kFp8Block, cols / kFp8Block);
  if (plan_.source == MOEOPT_SOURCE_FP8) {
    auto* const data = arena_.take<Fp8Bits>(elements(count, rows, stride));
    auto* const scale = arena_.take<float>(scales);
    fill_fp8(data, all_rows, cols, stride, kCodeSpread, seed, stream);
    fill_float(scale, static_cast<std::int64_t>(scales), spread / kCodeSpread / kScaleFactor,
               spread / kCodeSpread * kScaleFactor, mix(seed), stream);
    source = {data, scale, rows, cols, stride};
    return source;
  }
  auto* const data = arena_.take<Bf16Bits>(elements(count, rows, stride));
  fill_bf16(data, all_rows, cols, stride, spread, seed, stream);
  source = {data, nullptr, rows, cols, stride};
  if (plan_.source == MOEOPT_SOURCE_BF16) return source;
  auto* const codes = arena_.take<Fp8Bits>(elements(count, rows, cols));
  auto* const scale = arena_.take<float>(scales);
  quantise_matrices(data, stride, count, rows, cols, codes, scale, stream);
  return {codes, scale, rows, cols, cols};
}

ExpertSet Experts::make_set(int count, int intermediate, std::uint64_t seed, ExpertSet& source) {
  const int hidden = plan_.hidden;
  ExpertSet set;
  set.gate = make_matrices(count, intermediate, hidden, mix(seed, "gate"), source.gate);
  set.up = make_matrices(count, intermediate, hidden, mix(seed, "up"), source.up);
  set.down = make_matrices(count, hidden, intermediate, mix(seed, "down"), source.down);
  return set;
}

moeopt_expert_source Experts::source_of(const ExpertSet& source, int index) const {
  const std::size_t element = plan_.source == MOEOPT_SOURCE_FP8 ? 1 : 2;
  const auto data = [&](const MatrixSet& m) {
    return static_cast<const void*>(static_cast<const unsigned char*>(m.data) +
                                    elements(index, m.rows, m.stride) * element);
  };
  const auto scale = [&](const MatrixSet& m) {
    return m.scale == nullptr ? nullptr
                              : m.scale + elements(index, m.rows / kFp8Block, m.cols / kFp8Block);
  };
  // Dense matrices show the default.
  const auto stride = [](const MatrixSet& m) { return m.stride == m.cols ? 0 : m.stride; };
  moeopt_expert_source s{};
  s.struct_size = sizeof(s);
  s.source = plan_.source;
  s.gate = data(source.gate);
  s.up = data(source.up);
  s.down = data(source.down);
  s.gate_stride = stride(source.gate);
  s.up_stride = stride(source.up);
  s.down_stride = stride(source.down);
  s.gate_scale = scale(source.gate);
  s.up_scale = scale(source.up);
  s.down_scale = scale(source.down);
  return s;
}

void Experts::poison(int slot) {
  arena_.poison(packed_ + static_cast<std::uint64_t>(slot) * stride_,
                static_cast<std::size_t>(expert_bytes_));
}

std::uint64_t Experts::hash() const {
  const Arena::Scope scope(arena_);
  auto* const sum = arena_.upload(std::vector<std::uint64_t>(1));
  const cudaStream_t stream = arena_.stream().get();
  for (int slot = 0; slot < plan_.slots; ++slot) {
    add_hash(packed_ + static_cast<std::uint64_t>(slot) * stride_,
             static_cast<std::size_t>(expert_bytes_), sum, stream);
  }
  add_hash(packed_shared_, static_cast<std::size_t>(shared_bytes_), sum, stream);
  return arena_.download(sum, 1)[0];
}

}  // namespace moeopt::gpu_test
