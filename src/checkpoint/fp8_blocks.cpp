#include "checkpoint/fp8_blocks.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

[[noreturn]] void refuse(const TensorInfo& tensor, const std::string& why) {
  throw_error(ErrorCode::kInvalidData, "{}: tensor \"{}\": {}", tensor.file, printable(tensor.name),
              why);
}

// Not rounded up by adding, which a huge extent would overflow.
std::int64_t blocks_of(std::int64_t extent) {
  return extent / kFp8BlockSize + (extent % kFp8BlockSize != 0 ? 1 : 0);
}

std::span<const float> floats(const TensorView& view) {
  return {reinterpret_cast<const float*>(view.data),
          static_cast<std::size_t>(view.shape.elements())};
}

}  // namespace

float Fp8BlockWeight::scale(std::int64_t row, std::int64_t column) const {
  MOEOPT_CHECK((row >= 0 && row < codes.shape[0]));
  MOEOPT_CHECK((column >= 0 && column < codes.shape[1]));
  const std::int64_t index = row / kFp8BlockSize * scales.shape[1] + column / kFp8BlockSize;
  return floats(scales)[static_cast<std::size_t>(index)];
}

std::string fp8_scale_name(std::string_view weight_name) {
  return std::string(weight_name) + "_scale_inv";
}

Shape fp8_scale_shape(const Shape& weight_shape) {
  MOEOPT_CHECK(weight_shape.rank() == 2u);
  return {blocks_of(weight_shape[0]), blocks_of(weight_shape[1])};
}

const TensorInfo& require_fp8_scales(const TensorSource& source, const TensorInfo& weight) {
  if (weight.dtype != DType::kF8E4M3) {
    refuse(weight,
           fmt::format("is {}, not {}", dtype_name(weight.dtype), dtype_name(DType::kF8E4M3)));
  }
  if (weight.shape.rank() != 2) {
    refuse(weight, fmt::format("shape {} is not a matrix", weight.shape.text()));
  }
  const TensorInfo* scales = source.find(fp8_scale_name(weight.name));
  if (scales == nullptr) {
    throw_error(ErrorCode::kNotFound, "{}: tensor \"{}\": is {} and has no \"{}\"", weight.file,
                printable(weight.name), dtype_name(weight.dtype),
                printable(fp8_scale_name(weight.name)));
  }
  const Shape expected = fp8_scale_shape(weight.shape);
  if (scales->dtype != DType::kF32 || scales->shape != expected) {
    refuse(*scales, fmt::format("is {} {}, the scales of a {} matrix are {} {}",
                                dtype_name(scales->dtype), scales->shape.text(),
                                weight.shape.text(), dtype_name(DType::kF32), expected.text()));
  }
  return *scales;
}

Fp8BlockWeight view_fp8_blocks(const TensorSource& source, std::string_view weight_name) {
  const TensorInfo& scales = require_fp8_scales(source, require_tensor(source, weight_name));
  const Fp8BlockWeight weight = {source.view(weight_name), source.view(scales.name)};
  const auto values = floats(weight.scales);
  const auto wrong = std::find_if(values.begin(), values.end(),
                                  [](float value) { return !std::isfinite(value) || value < 0; });
  if (wrong != values.end()) {
    refuse(scales, fmt::format("element {} is {}, not a scale", wrong - values.begin(), *wrong));
  }
  return weight;
}

void dequantize_row(const Fp8BlockWeight& weight, std::int64_t row, std::span<float> out) {
  const std::int64_t columns = weight.codes.shape[1];
  MOEOPT_CHECK(static_cast<std::int64_t>(out.size()) == columns);
  const auto* codes = reinterpret_cast<const F8E4M3*>(weight.codes.data) + row * columns;
  for (std::int64_t begin = 0; begin < columns; begin += kFp8BlockSize) {
    const float scale = weight.scale(row, begin);
    for (std::int64_t i = begin; i < std::min(begin + kFp8BlockSize, columns); ++i) {
      out[static_cast<std::size_t>(i)] = to_float(codes[i]) * scale;
    }
  }
}

}  // namespace moeopt
