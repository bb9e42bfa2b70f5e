// The layers that the benchmark knows by name, and the times and ratios that they are held to.
// Pure data and arithmetic; no CUDA.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moeopt::bench {

enum class DType { kBf16, kFp8 };

struct LayerShape {
  std::string name;
  int hidden = 0;
  int intermediate = 0;
  int experts = 0;
  int top_k = 0;
  int shared_intermediate = 0;  // 0: no shared expert
  bool shared_gate = false;
  bool renormalise = true;
  bool given_ids = false;  // what the judged measurement of this shape does; else the gate is fused
};

const char* name_of(DType dtype);

// "qwen3", "mixtral", "dsv3", "qwen15" or "H,I,E,k[,shared]"; throws std::invalid_argument.
LayerShape parse_shape(const std::string& text);

// Dense rates of the machine's own matrix products, FLOP/s.
struct MatrixRates {
  // cuBLAS and cuBLASLt, 8192 x 8192 x 8192, random data, on one H200.
  double bf16 = 781e12;
  double fp8 = 1432e12;
};

// Multiplications and additions of one call, 2 a weight and row, shared expert included.
double layer_flops(const LayerShape& shape, int tokens);

struct Floor {
  double us = 0;     // what the layer's time is divided by
  double limit = 0;  // and may be at most; 0: nothing is asked of this point
};
// `weight_bytes` are those of the distinct experts that one call touches.
Floor floor_of(const LayerShape& shape, DType dtype, int tokens, double weight_bytes,
               double stream_us, const MatrixRates& rates);

// The time to reach on an H200 under uniform routing, where there is one.
std::optional<double> target_us(const LayerShape& shape, DType dtype, int tokens);

// The (shape, dtype) pairs and token counts that have targets.
struct JudgedLayer {
  std::string shape;
  DType dtype;
  std::vector<int> tokens;
};
std::vector<JudgedLayer> judged_layers();

}  // namespace moeopt::bench
