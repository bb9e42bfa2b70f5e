#include "plan/weight_plan.h"

#include <fmt/format.h>

#include <numeric>

#include "checkpoint/fp8_blocks.h"
#include "plan/sharding.h"

namespace moeopt {
namespace {

std::uint64_t scale_blocks(const Shape& shape) {
  std::uint64_t blocks = 1;
  for (const std::int64_t extent : shape.extents()) {
    blocks *= static_cast<std::uint64_t>((extent + kFp8BlockSize - 1) / kFp8BlockSize);
  }
  return blocks;
}

}  // namespace

WeightPlan::WeightPlan(const ModelSpec& spec, const TensorSource* tensors)
    : spec_(&spec), tensors_(tensors), weights_(weights_of(spec)) {}

std::uint64_t WeightPlan::shard_bytes(const WeightSpec& weight, int ranks) const {
  const Shape shape = shard_of(*spec_, weight, ranks).shape;
  const auto elements = static_cast<std::uint64_t>(shape.elements());
  const auto dtype_of = [&](const std::string& name, DType expected) {
    const TensorInfo* tensor = tensors_ != nullptr ? tensors_->find(name) : nullptr;
    return tensor != nullptr ? tensor->dtype : expected;
  };
  const DType dtype = dtype_of(weight.name, weight.quantised ? DType::kF8E4M3 : spec_->dtype);
  std::uint64_t bytes = elements * dtype_bytes(dtype);
  if (dtype == DType::kF8E4M3) {
    const DType scale = dtype_of(weight.name + "_scale_inv", DType::kF32);
    bytes += scale_blocks(shape) * dtype_bytes(scale);
  }
  return bytes;
}

std::array<std::uint64_t, kWeightClasses> WeightPlan::bytes_by_class(int ranks) const {
  std::array<std::uint64_t, kWeightClasses> bytes{};
  std::array<std::uint64_t, kWeightClasses> of_experts{};  // all ranks together
  for (const WeightSpec& weight : weights_) {
    const auto index = static_cast<std::size_t>(weight_class_of(weight.role));
    (weight.expert >= 0 ? of_experts : bytes)[index] += shard_bytes(weight, ranks);
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] += of_experts[i] / static_cast<std::uint64_t>(ranks);
  }
  return bytes;
}

std::uint64_t WeightPlan::bytes(int ranks) const {
  const auto by_class = bytes_by_class(ranks);
  return std::accumulate(by_class.begin(), by_class.end(), std::uint64_t{0});
}

std::vector<PlannedBuffer> WeightPlan::buffers(int ranks, int rank) const {
  std::vector<PlannedBuffer> buffers;
  std::map<std::pair<int, WeightRole>, std::size_t> expert_buffers;
  for (const WeightSpec& weight : weights_) {
    const bool is_expert = weight.expert >= 0;
    if (is_expert) {
      const int n_experts = spec_->layers[static_cast<std::size_t>(weight.layer)].moe->n_experts;
      const int per_rank = n_experts / ranks;
      if (weight.expert / per_rank != rank) continue;
      const auto [at, is_new] =
          expert_buffers.try_emplace({weight.layer, weight.role}, buffers.size());
      if (!is_new) {
        buffers[at->second].bytes += shard_bytes(weight, ranks);
        continue;
      }
    }
    PlannedBuffer buffer;
    buffer.name = weight.name;
    buffer.kind = BufferKind::kWeight;
    buffer.weight_class = weight_class_of(weight.role);
    buffer.bytes = shard_bytes(weight, ranks);
    buffer.rank = rank;
    buffer.transform = shard_of(*spec_, weight, ranks).transform;
    if (is_expert) {
      const int per_rank =
          spec_->layers[static_cast<std::size_t>(weight.layer)].moe->n_experts / ranks;
      const std::string index = fmt::format(".{}.", weight.expert);
      if (const std::size_t at = buffer.name.rfind(index); at != std::string::npos) {
        buffer.name.replace(at, index.size(), ".{expert}.");
      }
      buffer.transform =
          fmt::format("as stored, experts {} to {}", rank * per_rank, (rank + 1) * per_rank - 1);
    }
    buffer.sources = {buffer.name};
    if (weight.quantised) buffer.sources.push_back(buffer.name + "_scale_inv");
    buffers.push_back(std::move(buffer));
  }
  return buffers;
}

}  // namespace moeopt
