// fp8 weights as DeepSeek-V3 stores them: e4m3 codes [rows, columns] called "x.weight", and float32
// "x.weight_scale_inv" [ceil(rows / 128), ceil(columns / 128)], one factor a block of 128 x 128.
// The weight is code * factor of its block (the "inv" in the name notwithstanding); blocks at the
// lower and right edge are cut.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "checkpoint/tensor_source.h"

namespace moeopt {

inline constexpr std::int64_t kFp8BlockSize = 128;

struct Fp8BlockWeight {
  TensorView codes;
  TensorView scales;

  float scale(std::int64_t row, std::int64_t column) const;
};

// "x.weight" -> "x.weight_scale_inv".
std::string fp8_scale_name(std::string_view weight_name);
Shape fp8_scale_shape(const Shape& weight_shape);

// The scales of an fp8 matrix, by headers alone. Error(kNotFound) when there are none,
// Error(kInvalidData) when either's dtype or shape is not as above; both name file and tensor.
const TensorInfo& require_fp8_scales(const TensorSource& source, const TensorInfo& weight);

// Both, and every scale finite and not negative, else Error(kInvalidData).
Fp8BlockWeight view_fp8_blocks(const TensorSource& source, std::string_view weight_name);

// Row `row` as float: `out` has as many elements as the matrix has columns.
void dequantize_row(const Fp8BlockWeight& weight, std::int64_t row, std::span<float> out);

}  // namespace moeopt
