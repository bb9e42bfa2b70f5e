#include "moe_layer/shapes.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>
#include <stdexcept>

namespace moeopt::bench {
namespace {

const std::vector<LayerShape>& named_shapes() {
  static const std::vector<LayerShape> shapes = {
      {"qwen3", 2048, 768, 128, 8, 0, false, true, false},
      {"mixtral", 4096, 14336, 8, 2, 0, false, true, false},
      {"dsv3", 7168, 2048, 32, 8, 0, false, true, true},  // one rank of eight, every token local
      {"qwen15", 2048, 1408, 60, 4, 5632, true, false, false},
  };
  return shapes;
}

struct Targets {
  std::string shape;
  DType dtype;
  std::map<int, double> us;  // by tokens
};

// From the stream's rate on one H200, 2026-11-21.
const std::vector<Targets>& targets() {
  static const std::vector<Targets> table = {
      {"qwen3",
       DType::kBf16,
       {{1, 27},
        {4, 70},
        {8, 116},
        {16, 182},
        {32, 243},
        {64, 272},
        {128, 278},
        {256, 287},
        {512, 298}}},
      {"qwen3",
       DType::kFp8,
       {{1, 18},
        {4, 38},
        {8, 64},
        {16, 96},
        {32, 127},
        {64, 143},
        {128, 146},
        {256, 152},
        {512, 165}}},
      {"mixtral", DType::kBf16, {{1, 163}, {8, 572}, {64, 630}, {512, 690}}},
      {"mixtral", DType::kFp8, {{1, 88}, {8, 300}, {64, 325}, {512, 440}}},
      {"dsv3", DType::kFp8, {{1, 88}, {8, 290}, {64, 325}, {512, 450}}},
      {"qwen15", DType::kBf16, {{1, 42}, {8, 130}, {64, 268}, {512, 300}}},
  };
  return table;
}

constexpr int kJudgedTokens = 512;            // beyond, nothing is asked of the time
constexpr int kStreamingTokens = 128;         // up to here the weights alone are the floor
constexpr double kMatrixRowsPerExpert = 128;  // from here the products may be the floor

}  // namespace

const char* name_of(DType dtype) {
  return dtype == DType::kBf16 ? "bf16" : "fp8";
}

LayerShape parse_shape(const std::string& text) {
  for (const LayerShape& shape : named_shapes()) {
    if (shape.name == text) return shape;
  }
  std::vector<int> numbers;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    int number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (error != std::errc() || end != part.data() + part.size() || number < 0) {
      numbers.clear();
      break;
    }
    numbers.push_back(number);
  }
  if (numbers.size() < 4 || numbers.size() > 5) {
    throw std::invalid_argument("not a shape: " + text + " (a name or H,I,E,k[,shared])");
  }
  LayerShape shape{text, numbers[0], numbers[1], numbers[2], numbers[3]};
  if (numbers.size() == 5) shape.shared_intermediate = numbers[4];
  if (shape.top_k < 1 || shape.top_k > shape.experts || shape.experts > shape.hidden) {
    throw std::invalid_argument("needs 1 <= k <= E <= H: " + text);
  }
  return shape;
}

double layer_flops(const LayerShape& shape, int tokens) {
  const double columns =
      double{1} * shape.top_k * shape.intermediate + double{1} * shape.shared_intermediate;
  return 6.0 * tokens * columns * shape.hidden;
}

Floor floor_of(const LayerShape& shape, DType dtype, int tokens, double weight_bytes,
               double stream_us, const MatrixRates& rates) {
  if (tokens == 0 || tokens > kJudgedTokens) return {stream_us, 0};
  const double by_bytes = weight_bytes < 100e6 ? 1.35 : weight_bytes <= 500e6 ? 1.08 : 1.05;
  if (tokens <= kStreamingTokens) return {stream_us, by_bytes};
  if (double{1} * tokens * shape.top_k / shape.experts < kMatrixRowsPerExpert) {
    return {stream_us, std::max(by_bytes, 1.12)};
  }
  const double rate = dtype == DType::kBf16 ? rates.bf16 : rates.fp8;
  return {std::max(stream_us, layer_flops(shape, tokens) / rate * 1e6), std::max(by_bytes, 1.15)};
}

std::optional<double> target_us(const LayerShape& shape, DType dtype, int tokens) {
  for (const Targets& row : targets()) {
    if (row.shape != shape.name || row.dtype != dtype) continue;
    if (const auto found = row.us.find(tokens); found != row.us.end()) return found->second;
  }
  return std::nullopt;
}

std::vector<JudgedLayer> judged_layers() {
  std::vector<JudgedLayer> layers;
  for (const Targets& row : targets()) {
    layers.push_back({row.shape, row.dtype, {}});
    for (const auto& [tokens, us] : row.us) layers.back().tokens.push_back(tokens);
  }
  return layers;
}

}  // namespace moeopt::bench
