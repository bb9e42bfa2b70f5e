#include "checkpoint/random_source.h"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <mutex>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

constexpr std::string_view kScaleSuffix = "_scale_inv";
// Of fp8 codes: wide enough to use the format's range, 448 lies 4.5 deviations out.
constexpr float kCodeStd = 100.0f;
constexpr float kNormStd = 0.1f;
constexpr float kBiasStd = 0.02f;

// SplitMix64: a counter through a mixer, so that any stream can be started from any number.
class RandomBits {
 public:
  explicit RandomBits(std::uint64_t state) : state_(state) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
  }
  // Mean 0, deviation 1, within 3.5: four 16-bit uniforms, exact in float up to the last product.
  float next_normal() {
    const std::uint64_t bits = next();
    const auto sum = static_cast<std::int32_t>((bits & 0xffff) + (bits >> 16 & 0xffff) +
                                               (bits >> 32 & 0xffff) + (bits >> 48));
    constexpr float kInverseStd = 2.6429e-5f;  // 1 / sqrt(4 * (2^32 - 1) / 12)
    return static_cast<float>(sum - 2 * 0xffff) * kInverseStd;
  }
  // In [0, 1).
  float next_uniform() { return static_cast<float>(next() >> 40) * 0x1p-24f; }

 private:
  std::uint64_t state_;
};

// FNV-1a: std::hash may differ between machines.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

template <typename T>
T from_float(float value) {
  if constexpr (std::same_as<T, Bf16>) return to_bf16(value);
  if constexpr (std::same_as<T, F16>) return to_f16(value);
  if constexpr (std::same_as<T, F8E4M3>) return to_f8e4m3(value);
  if constexpr (std::floating_point<T>) return static_cast<T>(value);
}

template <typename T, typename Draw>
void fill(Buffer& buffer, Draw draw) {
  for (T& element : buffer.as<T>()) element = from_float<T>(draw());
}

template <typename Draw>
void fill(DType dtype, Buffer& buffer, Draw draw) {
  switch (dtype) {
    case DType::kF32:
      return fill<float>(buffer, draw);
    case DType::kF64:
      return fill<double>(buffer, draw);
    case DType::kF16:
      return fill<F16>(buffer, draw);
    case DType::kBF16:
      return fill<Bf16>(buffer, draw);
    case DType::kF8E4M3:
      return fill<F8E4M3>(buffer, draw);
    case DType::kI64:
    case DType::kI32:
    case DType::kI16:
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
      return;  // a Buffer is zero
  }
}

float matrix_std(const Shape& shape) {
  const std::int64_t inputs = shape.rank() == 0 ? 1 : shape[shape.rank() - 1];
  return 1.0f / std::sqrt(static_cast<float>(std::max<std::int64_t>(inputs, 1)));
}

void fill_normal(DType dtype, Buffer& buffer, RandomBits bits, float mean, float std) {
  fill(dtype, buffer, [&] { return mean + std * bits.next_normal(); });
}

}  // namespace

struct RandomSource::Tensor {
  TensorInfo info;
  std::mutex mutex;
  std::optional<Buffer> buffer;
};

RandomSource::RandomSource(std::vector<TensorInfo> tensors, std::uint64_t seed) : seed_(seed) {
  for (TensorInfo& info : tensors) {
    const auto elements = info.shape.checked_elements();
    const auto size_bytes =
        elements ? checked_multiply(*elements, dtype_bytes(info.dtype)) : std::nullopt;
    if (!size_bytes) {
      throw_error(ErrorCode::kUsage, "random tensor \"{}\": shape {} overflows",
                  printable(info.name), info.shape.text());
    }
    info.size_bytes = *size_bytes;
    info.file = "random";
    tensors_.push_back(std::make_unique<Tensor>());
    tensors_.back()->info = std::move(info);
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const auto& a, const auto& b) { return a->info.name < b->info.name; });
  const auto twin =
      std::adjacent_find(tensors_.begin(), tensors_.end(),
                         [](const auto& a, const auto& b) { return a->info.name == b->info.name; });
  if (twin != tensors_.end()) {
    throw_error(ErrorCode::kUsage, "random tensor \"{}\": named twice",
                printable((*twin)->info.name));
  }
}

RandomSource::~RandomSource() = default;

RandomSource::Tensor* RandomSource::lookup(std::string_view name) const {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const auto& tensor, std::string_view wanted) { return tensor->info.name < wanted; });
  return found == tensors_.end() || (*found)->info.name != name ? nullptr : found->get();
}

const TensorInfo* RandomSource::find(std::string_view name) const {
  const Tensor* tensor = lookup(name);
  return tensor == nullptr ? nullptr : &tensor->info;
}

TensorView RandomSource::view(std::string_view name) const {
  const TensorInfo& info = require_tensor(*this, name);
  Tensor& tensor = *lookup(name);
  const std::lock_guard lock(tensor.mutex);
  if (!tensor.buffer) {
    Buffer buffer(static_cast<std::size_t>(info.size_bytes));
    RandomBits bits(RandomBits(seed_ ^ hash_of(info.name)).next());
    if (info.name.ends_with(kScaleSuffix)) {
      const TensorInfo* weight =
          find(std::string_view(info.name).substr(0, info.name.size() - kScaleSuffix.size()));
      const float mean = matrix_std(weight != nullptr ? weight->shape : info.shape) / kCodeStd;
      fill(info.dtype, buffer, [&] { return mean * (0.5f + bits.next_uniform()); });
    } else if (info.shape.rank() >= 2) {
      const bool scaled = find(info.name + std::string(kScaleSuffix)) != nullptr;
      fill_normal(info.dtype, buffer, bits, 0, scaled ? kCodeStd : matrix_std(info.shape));
    } else if (info.name.find("norm") != std::string::npos) {
      fill_normal(info.dtype, buffer, bits, 1, kNormStd);
    } else {
      fill_normal(info.dtype, buffer, bits, 0, kBiasStd);
    }
    tensor.buffer = std::move(buffer);
  }
  return {info.dtype, info.shape, tensor.buffer->bytes().data()};
}

void RandomSource::release(std::string_view name) const {
  Tensor* tensor = lookup(name);
  if (tensor == nullptr) return;
  const std::lock_guard lock(tensor->mutex);
  tensor->buffer.reset();
}

std::vector<const TensorInfo*> RandomSource::list() const {
  std::vector<const TensorInfo*> infos;
  infos.reserve(tensors_.size());
  for (const auto& tensor : tensors_) infos.push_back(&tensor->info);
  return infos;
}

std::string RandomSource::describe() const {
  return fmt::format("random tensors (seed {}), {}", seed_, format_bytes(total_bytes(*this)));
}

}  // namespace moeopt
