// The MoE layer by every instruction set: against the float64 specification, and bit by bit against
// itself in other batches and on other numbers of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>

#include "cpu/fast_util.h"
#include "cpu/reference/moe_layer.h"

namespace moeopt::cpu {
namespace {

struct Layer {
  MoeSpec spec;
  int hidden = 0;
  std::deque<RandomMatrix> matrices;  // never moves them
  std::vector<SwigluWeights> experts;
  std::vector<float> bias;
  MoeWeights weights;

  const Matrix& add(int out, int in, DType dtype) {
    return matrices.emplace_back(out, in, dtype, 100 + 3 * matrices.size()).matrix();
  }
};

struct Options {
  int hidden = 96, intermediate = 48, n_experts = 8, top_k = 3;
  DType dtype = DType::kBF16;
  DType router_dtype = DType::kBF16;
  DType up_dtype = DType::kBF16;  // of odd experts, when it differs from dtype
  int shared = 0;
  bool shared_gate = false;
  bool sigmoid = false;
};

std::unique_ptr<Layer> make_layer(const Options& o) {
  auto layer = std::make_unique<Layer>();
  layer->hidden = o.hidden;
  layer->spec.n_experts = o.n_experts;
  layer->spec.top_k = o.top_k;
  layer->spec.intermediate = o.intermediate;
  layer->spec.shared_intermediate = o.shared;
  layer->spec.shared_expert_gate = o.shared_gate;
  if (o.sigmoid) {
    layer->spec.router = {.score = RouterScore::kSigmoid,
                          .correction_bias = true,
                          .n_groups = 4,
                          .top_k_groups = 2,
                          .group_score = GroupScore::kTopTwoSum,
                          .scale = 2.5};
    layer->bias = random_floats(static_cast<std::size_t>(o.n_experts), 3, 0.1f);
  }
  const auto swiglu = [&](int intermediate, DType up) {
    return SwigluWeights{layer->add(intermediate, o.hidden, o.dtype),
                         layer->add(intermediate, o.hidden, up),
                         layer->add(o.hidden, intermediate, o.dtype)};
  };
  for (int e = 0; e < o.n_experts; ++e) {
    layer->experts.push_back(swiglu(o.intermediate, e % 2 == 1 ? o.up_dtype : o.dtype));
  }
  layer->weights.spec = &layer->spec;
  layer->weights.router = layer->add(o.n_experts, o.hidden, o.router_dtype);
  layer->weights.router_bias = layer->bias;
  layer->weights.experts = layer->experts;
  if (o.shared > 0) layer->weights.shared = swiglu(o.shared, o.dtype);
  if (o.shared_gate) layer->weights.shared_expert_gate = layer->add(1, o.hidden, o.router_dtype);
  return layer;
}

ModelSpec spec_of(const Layer& layer) {
  ModelSpec spec = spec_of_width(layer.hidden);
  spec.layers.resize(1);
  spec.layers[0].moe = layer.spec;
  return spec;
}

struct Result {
  std::vector<float> out;
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
  bool operator==(const Result&) const = default;
};

Result run(OwnedOps& owned, const Layer& layer, const float* x, int rows) {
  const auto slots = static_cast<std::size_t>(rows * layer.spec.top_k);
  Result result{std::vector<float>(static_cast<std::size_t>(rows * layer.hidden), -1e30f),
                std::vector<std::int32_t>(slots, -1), std::vector<float>(slots, -1.0f)};
  owned.ops->moe(x, rows, layer.weights, {result.experts, result.weights}, result.out.data());
  return result;
}

// Row errors as DESIGN's numerics define them, on the fast ops' own routing; and that routing
// against the specification's.
void expect_right(const Layer& layer, const float* x, int rows, const Result& result) {
  const auto hidden = static_cast<std::size_t>(layer.hidden);
  const auto top_k = static_cast<std::size_t>(layer.spec.top_k);
  const auto n_rows = static_cast<std::size_t>(rows);
  const bool f32 = layer.experts.front().gate.weight.dtype == DType::kF32;
  reference::MoeLayerInput input;
  input.x = {x, n_rows * hidden};
  input.rows = rows;
  input.hidden = layer.hidden;
  input.weights = &layer.weights;
  input.rounding = f32 ? reference::kMoeF32 : reference::kMoeCpuStored;
  std::vector<double> out(n_rows * hidden), y(n_rows * top_k * hidden), weights(n_rows * top_k);
  std::vector<std::int32_t> ids(n_rows * top_k);
  std::vector<double> scratch(reference::moe_layer_scratch(layer.spec, layer.hidden));
  reference::moe_layer<double>(input, {out, ids, weights, {}, {}}, scratch);
  int routed_alike = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] != result.experts[i]) continue;
    ++routed_alike;
    EXPECT_NEAR(weights[i], result.weights[i], 1e-4);
  }
  EXPECT_GE(routed_alike, static_cast<int>(ids.size()) * 97 / 100);

  input.given_ids = result.experts;
  input.given_weights = result.weights;
  reference::moe_layer<double>(input, {out, ids, weights, {}, y}, scratch);
  double difference = 0, size = 0, worst = 0;
  for (std::size_t r = 0; r < n_rows; ++r) {
    double row_difference = 0, row_size = 0, slots_size = 0;
    for (std::size_t j = 0; j < hidden; ++j) {
      const double d = static_cast<double>(result.out[r * hidden + j]) - out[r * hidden + j];
      row_difference += d * d;
      row_size += out[r * hidden + j] * out[r * hidden + j];
    }
    for (std::size_t s = 0; s < top_k; ++s) {
      double y_size = 0;
      for (std::size_t j = 0; j < hidden; ++j) {
        const double value = y[(r * top_k + s) * hidden + j];
        y_size += value * value;
      }
      slots_size += std::fabs(weights[r * top_k + s]) * std::sqrt(y_size);
    }
    difference += row_difference;
    size += row_size;
    worst = std::max(worst, std::sqrt(row_difference) / std::max(std::sqrt(row_size), slots_size));
  }
  EXPECT_GT(size, 0);
  EXPECT_LE(std::sqrt(difference / size), f32 ? 2e-6 : 1e-3);
  EXPECT_LE(worst, f32 ? 2e-6 : 3e-3);
}

class FastMoeTest : public testing::TestWithParam<std::string> {};

TEST_P(FastMoeTest, MatchesTheSpecification) {
  const Options cases[] = {
      {},
      {.hidden = 128, .intermediate = 256, .dtype = DType::kF8E4M3, .up_dtype = DType::kF8E4M3},
      {.dtype = DType::kF32, .router_dtype = DType::kF32, .up_dtype = DType::kF32},
      {.dtype = DType::kF16, .router_dtype = DType::kF16, .up_dtype = DType::kF16},
      {.router_dtype = DType::kF32},
      {.hidden = 50, .intermediate = 37, .up_dtype = DType::kF16},  // one expert mixes dtypes
      {.shared = 80},
      {.shared = 20, .shared_gate = true},
      {.n_experts = 16, .top_k = 4, .shared = 48, .sigmoid = true},
      {.n_experts = 4, .top_k = 4},
  };
  for (const Options& options : cases) {
    const std::unique_ptr<Layer> layer = make_layer(options);
    for (const int rows : {1, 60}) {
      SCOPED_TRACE(testing::Message()
                   << dtype_name(options.dtype) << " hidden " << options.hidden << " shared "
                   << options.shared << " experts " << options.n_experts << " rows " << rows);
      const std::vector<float> x =
          random_floats(static_cast<std::size_t>(rows * options.hidden), 55);
      OwnedOps owned = fast_ops(2, GetParam(), spec_of(*layer), rows);
      expect_right(*layer, x.data(), rows, run(owned, *layer, x.data(), rows));
    }
  }
}

TEST_P(FastMoeTest, RowsAreTheSameInAnyBatch) {
  constexpr int kRows = 600;  // more than are taken at once
  for (const DType dtype : {DType::kBF16, DType::kF8E4M3, DType::kF32}) {
    SCOPED_TRACE(dtype_name(dtype));
    const std::unique_ptr<Layer> layer = make_layer(
        {.hidden = 130, .intermediate = 70, .dtype = dtype, .up_dtype = dtype, .shared = 33});
    const auto hidden = static_cast<std::size_t>(layer->hidden);
    const std::vector<float> x = random_floats(kRows * hidden, 65);
    OwnedOps owned = fast_ops(2, GetParam(), spec_of(*layer), kRows);
    const Result all = run(owned, *layer, x.data(), kRows);
    for (const std::size_t rows : {1, 2, 7, 16, 33, 64, 512}) {
      for (const std::size_t first : {std::size_t{0}, kRows - rows}) {
        const Result some = run(owned, *layer, x.data() + first * hidden, static_cast<int>(rows));
        ASSERT_EQ(std::memcmp(some.out.data(), all.out.data() + first * hidden,
                              some.out.size() * sizeof(float)),
                  0)
            << rows << " rows from " << first;
      }
    }
  }
}

TEST_P(FastMoeTest, ThreadsDoNotShow) {
  const std::unique_ptr<Layer> layer =
      make_layer({.hidden = 256, .intermediate = 128, .shared = 64});
  constexpr int kRows = 48;
  const std::vector<float> x = random_floats(kRows * 256, 75);
  OwnedOps one = fast_ops(1, GetParam(), spec_of(*layer), kRows);
  const Result expected = run(one, *layer, x.data(), kRows);
  for (const int threads : {2, 7}) {
    OwnedOps several = fast_ops(threads, GetParam(), spec_of(*layer), kRows);
    for (int repeat = 0; repeat < 3; ++repeat) {
      ASSERT_EQ(run(several, *layer, x.data(), kRows), expected) << threads << " threads";
    }
  }
}

TEST_P(FastMoeTest, StaleScratchDoesNotShow) {
  const std::unique_ptr<Layer> layer =
      make_layer({.hidden = 100, .intermediate = 40, .shared = 24});
  const std::vector<float> x = random_floats(20 * 100, 85);
  OwnedOps owned = fast_ops(1, GetParam(), spec_of(*layer), 20);
  const Result expected = run(owned, *layer, x.data(), 5);
  for (std::byte& byte : owned.scratch.bytes()) byte = std::byte{0xff};  // NaN in every format
  EXPECT_EQ(run(owned, *layer, x.data(), 5), expected);
}

TEST_P(FastMoeTest, SwigluMatchesTheSpecification) {
  const std::unique_ptr<Layer> layer = make_layer({.hidden = 90, .intermediate = 300});
  constexpr int kRows = 20;
  const std::vector<float> x = random_floats(kRows * 90, 95);
  ModelSpec spec = spec_of_width(90);
  spec.layers.resize(1);
  spec.layers[0].dense_intermediate = 300;
  OwnedOps owned = fast_ops(2, GetParam(), spec, kRows);
  std::vector<float> out(kRows * 90);
  owned.ops->swiglu(x.data(), kRows, layer->experts[2], out.data());
  std::vector<double> expected(90);
  std::vector<double> scratch(reference::swiglu_scratch(90, 300));
  for (std::size_t r = 0; r < kRows; ++r) {
    const std::vector<double> row(x.begin() + static_cast<std::ptrdiff_t>(r * 90),
                                  x.begin() + static_cast<std::ptrdiff_t>((r + 1) * 90));
    reference::swiglu_row<double>(row, layer->experts[2], reference::kMoeCpuStored, expected, {},
                                  scratch);
    EXPECT_LE(relative_error(std::span(out).subspan(r * 90, 90), expected), 3e-3) << "row " << r;
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, FastMoeTest, testing::ValuesIn(isas()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace moeopt::cpu
