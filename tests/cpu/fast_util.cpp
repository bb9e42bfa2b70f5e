#include "cpu/fast_util.h"

#include <cmath>
#include <cstring>

#include "base/cpu_features.h"

namespace moeopt::cpu {
namespace {

template <typename Element>
void put(std::byte* at, Element element) {
  std::memcpy(at, &element, sizeof(element));
}

template <typename Element>
Element get(const std::byte* at) {
  Element element;
  std::memcpy(&element, at, sizeof(element));
  return element;
}

int blocks(int n) {
  return (n + 127) / 128;
}

}  // namespace

std::vector<float> random_floats(std::size_t n, std::uint64_t seed, float scale) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

RandomMatrix::RandomMatrix(int out, int in, DType dtype, std::uint64_t seed,
                           std::size_t into_line) {
  const std::size_t n = static_cast<std::size_t>(out) * static_cast<std::size_t>(in);
  const std::size_t element = dtype_bytes(dtype);
  const bool fp8 = dtype == DType::kF8E4M3;
  bytes_ = Buffer(into_line + n * element);
  std::byte* data = bytes_.bytes().data() + into_line;
  const std::vector<float> values =
      random_floats(n, seed, fp8 ? 8.0f : 1.0f / std::sqrt(static_cast<float>(in)));
  for (std::size_t i = 0; i < n; ++i, data += element) {
    switch (dtype) {
      case DType::kF32:
        put(data, values[i]);
        break;
      case DType::kF16:
        put(data, to_f16(values[i]));
        break;
      case DType::kBF16:
        put(data, to_bf16(values[i]));
        break;
      default:
        put(data, to_f8e4m3(values[i]));
        break;
    }
  }
  matrix_.weight = {dtype, {out, in}, bytes_.bytes().data() + into_line};
  if (!fp8) return;
  scales_ = random_floats(static_cast<std::size_t>(blocks(out) * blocks(in)), seed + 1);
  for (float& scale : scales_) scale = (0.1f + std::fabs(scale)) / static_cast<float>(in);
  matrix_.scale_inv = {
      DType::kF32, {blocks(out), blocks(in)}, reinterpret_cast<const std::byte*>(scales_.data())};
}

double RandomMatrix::at(int row, int column) const {
  const std::size_t index = static_cast<std::size_t>(row) * static_cast<std::size_t>(matrix_.in()) +
                            static_cast<std::size_t>(column);
  const std::byte* data = matrix_.weight.data + index * dtype_bytes(matrix_.weight.dtype);
  switch (matrix_.weight.dtype) {
    case DType::kF32:
      return get<float>(data);
    case DType::kF16:
      return to_float(get<F16>(data));
    case DType::kBF16:
      return to_float(get<Bf16>(data));
    default:
      break;
  }
  const int block = row / 128 * blocks(matrix_.in()) + column / 128;
  return static_cast<double>(to_float(get<F8E4M3>(data))) *
         static_cast<double>(scales_[static_cast<std::size_t>(block)]);
}

std::vector<double> exact_product(const RandomMatrix& w, const float* x) {
  const bool rounds = w.matrix().weight.dtype != DType::kF32;
  std::vector<double> out(static_cast<std::size_t>(w.matrix().out()));
  for (int row = 0; row < w.matrix().out(); ++row) {
    double sum = 0;
    for (int k = 0; k < w.matrix().in(); ++k) {
      sum += w.at(row, k) * static_cast<double>(rounds ? round_to_bf16(x[k]) : x[k]);
    }
    out[static_cast<std::size_t>(row)] = sum;
  }
  return out;
}

double relative_error(std::span<const float> a, std::span<const double> b) {
  double difference = 0;
  double size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    difference += d * d;
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

OwnedOps fast_ops(int threads, const std::string& isa, const ModelSpec& spec, int max_rows) {
  OwnedOps owned;
  owned.ops = make_fast_ops(threads, isa);
  owned.scratch = Buffer(owned.ops->scratch_bytes(spec, max_rows, 4096));
  owned.ops->set_scratch(owned.scratch.bytes());
  return owned;
}

ModelSpec spec_of_width(int hidden) {
  ModelSpec spec;
  spec.hidden = hidden;
  return spec;
}

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Isa isa : supported_isas()) names.emplace_back(isa_name(isa));
  return names;
}

}  // namespace moeopt::cpu
