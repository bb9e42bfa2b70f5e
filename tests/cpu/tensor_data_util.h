// Random matrices as a checkpoint would store them, beside what they mean in float64.
// Invariant: the meaning is decoded here, from the definitions of the formats, by code that shares
// nothing with src/.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "cpu/ops.h"

namespace moeopt::cpu {

using Rng = std::mt19937_64;

double uniform(Rng& rng, double low, double high);
double normal(Rng& rng);

// Nearest bf16 (ties to even) of a double; nearest e4m3 of a double, saturating.
double to_bf16_value(double value);
double to_e4m3_value(double value);

struct StoredMatrix {
  Matrix matrix;               // views of the bytes below
  std::vector<double> values;  // [out, in]
  std::vector<double> codes;   // e4m3: the values before their scale
  std::vector<double> scales;  // e4m3: [ceil(out/128), ceil(in/128)]
  std::shared_ptr<std::vector<std::byte>> bytes, scale_bytes;
  int out = 0, in = 0;

  double at(int row, int column) const {
    return values[static_cast<std::size_t>(row) * static_cast<std::size_t>(in) +
                  static_cast<std::size_t>(column)];
  }
};

// Normal values of standard deviation `spread`; e4m3 has a different scale in each block. The bytes
// start `misalignment` bytes after an aligned address.
StoredMatrix random_matrix(Rng& rng, DType dtype, int out, int in, double spread,
                           std::size_t misalignment = 0);

// Normal, optionally rounded to bf16.
std::vector<float> random_rows(Rng& rng, std::size_t n, double spread = 1.0, bool bf16 = false);

// ||got - wanted|| / ||wanted||; infinity when a value is not finite.
double frobenius_error(std::span<const float> got, std::span<const double> wanted);

}  // namespace moeopt::cpu
