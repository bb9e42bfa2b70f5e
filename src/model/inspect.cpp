#include "model/inspect.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/error.h"
#include "base/strings.h"
#include "checkpoint/fp8_blocks.h"
#include "model/check_weights.h"

namespace moeopt {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kRuntimeBytes = 4096 * kMiB;  // context, workspace and activations a GPU
constexpr double kUsable = 0.90;
constexpr std::int64_t kGpuContext = 32768;  // tokens of KV that must fit too
constexpr int kMaxGpus = 1024;

struct Gpu {
  std::string_view name;
  std::uint64_t memory_bytes;  // as the driver reports it
};
constexpr std::array<Gpu, 3> kGpus = {
    {{"H100-80", 81559 * kMiB}, {"H200-141", 143771 * kMiB}, {"B200", 183359 * kMiB}}};

std::uint64_t elements_of(const WeightSpec& weight) {
  return static_cast<std::uint64_t>(weight.shape.elements());
}

bool is_active(const ModelSpec& spec, const WeightSpec& weight) {
  return weight.expert < 0 ||
         weight.expert < spec.layers[static_cast<std::size_t>(weight.layer)].moe->top_k;
}

ModelCounts count(const ModelSpec& spec, const std::vector<WeightSpec>& weights) {
  ModelCounts counts;
  for (const WeightSpec& weight : weights) {
    const std::uint64_t elements = elements_of(weight);
    counts.total += elements;
    if (is_active(spec, weight)) counts.active += elements;
    if (weight.role == WeightRole::kEmbedding) counts.embedding += elements;
  }
  return counts;
}

std::uint64_t kv_bytes_per_token(const ModelSpec& spec) {
  constexpr std::uint64_t kBf16Bytes = 2;
  std::uint64_t elements = 0;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    elements +=
        a.kind == AttentionKind::kMla
            ? static_cast<std::uint64_t>(a.kv_lora_rank) + static_cast<std::uint64_t>(a.qk_rope_dim)
            : static_cast<std::uint64_t>(a.n_kv_heads) *
                  static_cast<std::uint64_t>(a.qk_head_dim + a.v_head_dim);
  }
  return elements * kBf16Bytes;
}

class SizeTable {
 public:
  explicit SizeTable(Inspection& into) : into_(into) {}

  void add(WeightClass weight_class, DType dtype, std::uint64_t bytes) {
    into_.classes[static_cast<std::size_t>(weight_class)].bytes += bytes;
    by_dtype_[std::string(dtype_name(dtype))] += bytes;
    into_.weight_bytes += bytes;
  }

  void finish() {
    into_.bytes_by_dtype.assign(by_dtype_.begin(), by_dtype_.end());
    std::stable_sort(into_.bytes_by_dtype.begin(), into_.bytes_by_dtype.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
  }

 private:
  Inspection& into_;
  std::map<std::string, std::uint64_t> by_dtype_;
};

void size_from_config(const std::vector<WeightSpec>& weights, Inspection& out) {
  SizeTable table(out);
  for (const WeightSpec& weight : weights) {
    const WeightClass weight_class = weight_class_of(weight.role);
    const DType dtype = weight.quantised ? DType::kF8E4M3 : out.spec.dtype;
    table.add(weight_class, dtype, elements_of(weight) * dtype_bytes(dtype));
    if (weight.quantised) {
      const auto scales = static_cast<std::uint64_t>(fp8_scale_shape(weight.shape).elements());
      table.add(weight_class, DType::kF32, scales * dtype_bytes(DType::kF32));
    }
  }
  table.finish();
}

void size_from_headers(const std::vector<WeightSpec>& weights, const TensorSource& tensors,
                       Inspection& out) {
  std::unordered_map<std::string, WeightClass> expected;
  for (const WeightSpec& weight : weights) {
    expected.emplace(weight.name, weight_class_of(weight.role));
    if (weight.quantised) {
      expected.emplace(fp8_scale_name(weight.name), weight_class_of(weight.role));
    }
  }
  SizeTable table(out);
  for (const TensorInfo* info : tensors.list()) {
    const auto known = expected.find(info->name);
    WeightClass weight_class = WeightClass::kOther;
    if (known != expected.end()) {
      weight_class = known->second;
    } else if (out.spec.not_runnable) {
      weight_class = guess_weight_class(info->name);
    }
    table.add(weight_class, info->dtype, info->size_bytes);
  }
  table.finish();
}

int gpus_needed(std::uint64_t bytes, std::uint64_t memory_bytes) {
  const double usable = kUsable * static_cast<double>(memory_bytes);
  for (int n = 1; n <= kMaxGpus; n *= 2) {
    if (static_cast<double>(bytes) / n + static_cast<double>(kRuntimeBytes) <= usable) return n;
  }
  return 0;
}

}  // namespace

const std::string_view kGpuRule =
    "powers of two; weights + 32k tokens of KV split evenly, + 4 GiB each, within 90%";

ModelCounts count_parameters(const ModelSpec& spec) {
  return count(spec, weights_of(spec));
}

Inspection inspect_model(std::string name, const ModelSpec& spec, const TensorSource* tensors) {
  Inspection out;
  out.name = std::move(name);
  out.spec = spec;
  const std::vector<WeightSpec> weights = weights_of(spec);
  out.counts = count(spec, weights);
  for (const WeightSpec& weight : weights) {
    out.classes[static_cast<std::size_t>(weight_class_of(weight.role))].parameters +=
        elements_of(weight);
  }
  if (tensors == nullptr) {
    size_from_config(weights, out);
  } else {
    size_from_headers(weights, *tensors, out);
    out.exact = true;
    if (!spec.not_runnable) {
      try {
        check_weights(spec, *tensors);
      } catch (const Error& error) {
        out.weights_problem = error.what();
      }
    }
  }
  out.kv_bytes_per_token = kv_bytes_per_token(spec);
  const auto context = static_cast<std::uint64_t>(std::min(spec.max_position, kGpuContext));
  for (const Gpu& gpu : kGpus) {
    const int needed =
        gpus_needed(out.weight_bytes + out.kv_bytes_per_token * context, gpu.memory_bytes);
    out.gpus.push_back({gpu.name, gpu.memory_bytes, needed});
  }
  return out;
}

}  // namespace moeopt
