// Random matrices and inputs for the tests of cpu/fast, and their products in float64.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/ops.h"

namespace moeopt::cpu {

// Normal deviates times `scale`.
std::vector<float> random_floats(std::size_t n, std::uint64_t seed, float scale = 1.0f);

// A matrix of its own. With e4m3 its block scales are random too. The weights start `into_line`
// bytes past a 64-byte boundary: a checkpoint promises an element's alignment at most.
class RandomMatrix {
 public:
  RandomMatrix(int out, int in, DType dtype, std::uint64_t seed, std::size_t into_line = 8);
  const Matrix& matrix() const { return matrix_; }
  double at(int row, int column) const;  // the stored value times its scale

 private:
  Buffer bytes_;
  std::vector<float> scales_;
  Matrix matrix_;
};

// W x in float64, x rounded to bf16 first unless w is f32.
std::vector<double> exact_product(const RandomMatrix& w, const float* x);

// sqrt(sum (a - b)^2 / sum b^2)
double relative_error(std::span<const float> a, std::span<const double> b);

// Fast ops with scratch memory for steps of `max_rows` rows of `spec`.
struct OwnedOps {
  std::unique_ptr<CpuOps> ops;
  Buffer scratch;
};
OwnedOps fast_ops(int threads, const std::string& isa, const ModelSpec& spec, int max_rows);

// A spec whose layers are only what scratch_bytes() reads.
ModelSpec spec_of_width(int hidden);

// The names of the instruction sets this machine runs, for parameterised tests.
std::vector<std::string> isas();

}  // namespace moeopt::cpu
