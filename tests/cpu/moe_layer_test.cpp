// The MoE layer's specification (cpu/reference/moe_layer.h) against the oracle, for each dtype
// contract, in double and in float; and the properties that every implementation must have.
#include "cpu/reference/moe_layer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cpu/moe_oracle_util.h"
#include "cpu/reference/rounding.h"

namespace moeopt::cpu::reference {
namespace {

template <typename Real>
struct Result {
  std::vector<Real> out, weights, h, y;
  std::vector<std::int32_t> ids;
};

template <typename Real>
Result<Real> run(const MoeProblem& problem, const MoeLayerInput& input, Real poison = Real(NAN)) {
  const auto slots = static_cast<std::size_t>(problem.rows * problem.spec.top_k);
  const auto hidden = static_cast<std::size_t>(problem.hidden);
  Result<Real> result;
  result.out.assign(static_cast<std::size_t>(problem.rows) * hidden, Real(NAN));
  result.ids.assign(slots, -7);
  result.weights.assign(slots, Real(NAN));
  result.h.assign(slots * static_cast<std::size_t>(problem.spec.intermediate), Real(NAN));
  result.y.assign(slots * hidden, Real(NAN));
  std::vector<Real> scratch(moe_layer_scratch(problem.spec, problem.hidden), poison);
  moe_layer<Real>(input, {result.out, result.ids, result.weights, result.h, result.y}, scratch);
  return result;
}

struct Contract {
  std::string name;
  MoeRounding rounding;
  DType dtype;  // of the experts
};

const Contract kContracts[] = {
    {"f32", kMoeF32, DType::kF32},
    {"bf16", kMoeBf16, DType::kBF16},
    {"fp8", kMoeFp8, DType::kF8E4M3},
    {"cpu_bf16", kMoeCpuStored, DType::kBF16},
    {"cpu_fp8", kMoeCpuStored, DType::kF8E4M3},
    {"fp8_exact", kMoeF32, DType::kF8E4M3},
};

class MoeLayer : public testing::TestWithParam<Contract> {
 protected:
  MoeLayerInput input_of(const MoeProblem& problem, const MoeWeights& weights) const {
    MoeLayerInput input;
    input.x = problem.x;
    input.rows = problem.rows;
    input.hidden = problem.hidden;
    input.weights = &weights;
    input.rounding = GetParam().rounding;
    return input;
  }
};

std::vector<OracleRow> oracle(const MoeProblem& problem, const MoeRounding& rounding) {
  std::vector<OracleRow> rows;
  for (int r = 0; r < problem.rows; ++r) rows.push_back(oracle_row(problem, r, rounding));
  return rows;
}

TEST_P(MoeLayer, InDoubleIsTheOracle) {
  for (const MoeCase& c : moe_cases()) {
    SCOPED_TRACE(c.name);
    const MoeProblem& problem = shared_problem(c, GetParam().dtype);
    const MoeWeights weights = problem.weights();
    const auto got = run<double>(problem, input_of(problem, weights));
    const auto wanted = oracle(problem, GetParam().rounding);
    const auto top_k = static_cast<std::size_t>(c.spec.top_k);
    for (std::size_t r = 0; r < wanted.size(); ++r) {
      for (std::size_t slot = 0; slot < top_k; ++slot) {
        const std::size_t at = r * top_k + slot;
        ASSERT_EQ(got.ids[at], wanted[r].ids[slot]) << "row " << r << " slot " << slot;
        ASSERT_NEAR(got.weights[at], wanted[r].weights[slot], 1e-13);
        for (std::size_t i = 0; i < wanted[r].h[slot].size(); ++i) {
          ASSERT_NEAR(got.h[at * wanted[r].h[slot].size() + i], wanted[r].h[slot][i], 1e-12);
        }
        for (std::size_t j = 0; j < wanted[r].y[slot].size(); ++j) {
          ASSERT_NEAR(got.y[at * wanted[r].y[slot].size() + j], wanted[r].y[slot][j], 1e-12);
        }
      }
      const std::size_t hidden = wanted[r].out.size();
      for (std::size_t j = 0; j < hidden; ++j) {
        ASSERT_NEAR(got.out[r * hidden + j], wanted[r].out[j],
                    1e-12 * std::max(1.0, wanted[r].scale))
            << "row " << r << " column " << j;
      }
    }
  }
}

TEST_P(MoeLayer, InFloatKeepsTheBounds) {
  for (const MoeCase& c : moe_cases()) {
    SCOPED_TRACE(c.name);
    const MoeProblem& problem = shared_problem(c, GetParam().dtype);
    const MoeWeights weights = problem.weights();
    const auto got = run<float>(problem, input_of(problem, weights));
    const auto top_k = static_cast<std::size_t>(c.spec.top_k);
    const auto intermediate = static_cast<std::size_t>(c.spec.intermediate);

    // Stage one: h, in which a value next to a rounding boundary may fall either way.
    std::size_t different = 0;
    std::vector<OracleRow> wanted;
    for (int r = 0; r < problem.rows; ++r) {
      const OracleRow exact = oracle_row(problem, r, GetParam().rounding);
      std::vector<std::vector<double>> own_h;
      for (std::size_t slot = 0; slot < top_k; ++slot) {
        const std::size_t at = static_cast<std::size_t>(r) * top_k + slot;
        ASSERT_EQ(got.ids[at], exact.ids[slot]);
        const auto start = got.h.begin() + static_cast<std::ptrdiff_t>(at * intermediate);
        own_h.emplace_back(start, start + static_cast<std::ptrdiff_t>(intermediate));
        for (std::size_t i = 0; i < intermediate; ++i) {
          const double error = std::fabs(own_h[slot][i] - exact.h[slot][i]);
          const double size = std::fabs(exact.h[slot][i]);
          if (error <= 1e-5 * (size + 1)) continue;
          ++different;
          const double step = GetParam().rounding.h == InputRounding::kBf16 ? 0x1p-7 : 0x1p-3;
          // A step of the format, or of the smallest e4m3 subnormal against the block's largest.
          EXPECT_LE(error, 1.01 * step * size + 1.01 * 0x1p-9 / 448 * 20) << "h " << i;
        }
      }
      // Stage two: the output of the layer's own h.
      wanted.push_back(oracle_row(problem, r, GetParam().rounding, &own_h));
    }
    if (GetParam().rounding.h == InputRounding::kNone) {
      EXPECT_EQ(different, 0u);
    }
    EXPECT_LE(static_cast<double>(different), 0.03 * static_cast<double>(got.h.size()));
    const MoeError error = moe_error(got.out, wanted);
    // The shared expert's h is not handed over, and is rounded too.
    const bool exact_output =
        !GetParam().rounding.output_bf16 &&
        (GetParam().rounding.h == InputRounding::kNone || c.spec.shared_intermediate == 0);
    EXPECT_LE(error.frobenius, exact_output ? 3e-6 : 3e-4);
    EXPECT_LE(error.worst_row, exact_output ? 3e-6 : 1.5e-3);
  }
}

TEST_P(MoeLayer, CombinesInSlotOrderInTheAccumulationType) {
  for (const MoeCase& c : moe_cases()) {
    if (c.spec.shared_intermediate > 0) continue;
    const MoeProblem& problem = shared_problem(c, GetParam().dtype);
    const MoeWeights weights = problem.weights();
    const auto got = run<float>(problem, input_of(problem, weights));
    const auto top_k = static_cast<std::size_t>(c.spec.top_k);
    const auto hidden = static_cast<std::size_t>(c.hidden);
    for (std::size_t r = 0; r < static_cast<std::size_t>(c.rows); ++r) {
      for (std::size_t j = 0; j < hidden; ++j) {
        float sum = 0;
        for (std::size_t at = r * top_k; at < (r + 1) * top_k; ++at) {
          sum += got.weights[at] * got.y[at * hidden + j];
        }
        if (GetParam().rounding.output_bf16) sum = round_to_bf16(sum);
        ASSERT_EQ(got.out[r * hidden + j], sum) << c.name << " row " << r;
      }
    }
  }
}

TEST_P(MoeLayer, GivenRoutingIsAppliedOnce) {
  const MoeProblem& problem = shared_problem(moe_cases()[0], GetParam().dtype);
  const MoeWeights weights = problem.weights();
  MoeLayerInput input = input_of(problem, weights);
  const auto slots = static_cast<std::size_t>(problem.rows * problem.spec.top_k);
  std::vector<std::int32_t> ids(slots);
  std::vector<float> once(slots), twice(slots);
  for (std::size_t i = 0; i < slots; ++i) {
    ids[i] = static_cast<std::int32_t>((5 * i + i / 3) % 8);  // an expert may come twice
    once[i] = 0.1f + 0.01f * static_cast<float>(i);
    twice[i] = 2 * once[i];
  }
  input.given_ids = ids;
  input.given_weights = once;
  const auto a = run<float>(problem, input);
  EXPECT_EQ(a.ids, ids);
  EXPECT_EQ(a.weights, once);
  input.given_weights = twice;
  const auto b = run<float>(problem, input);
  EXPECT_EQ(a.y, b.y);
  for (std::size_t i = 0; i < a.out.size(); ++i) ASSERT_EQ(2 * a.out[i], b.out[i]);
}

TEST_P(MoeLayer, ExpertsElsewhereAddNothing) {
  const MoeProblem& problem = shared_problem(moe_cases()[0], GetParam().dtype);
  MoeWeights weights = problem.weights();
  MoeLayerInput input = input_of(problem, weights);
  const auto everything = run<double>(problem, input);

  // This rank holds experts 6, 1 and 3, in that order.
  const std::vector<std::int32_t> map = {-1, 1, -1, 2, -1, -1, 0, -1};
  const std::vector<SwigluWeights> here = {problem.expert_views[6], problem.expert_views[1],
                                           problem.expert_views[3]};
  weights.experts = here;
  input.expert_map = map;
  const auto part = run<double>(problem, input);
  EXPECT_EQ(part.ids, everything.ids);
  EXPECT_EQ(part.weights, everything.weights);
  const auto hidden = static_cast<std::size_t>(problem.hidden);
  const auto top_k = static_cast<std::size_t>(problem.spec.top_k);
  int empty_rows = 0;
  for (std::size_t r = 0; r < static_cast<std::size_t>(problem.rows); ++r) {
    int n_here = 0;
    for (std::size_t at = r * top_k; at < (r + 1) * top_k; ++at) {
      const bool is_here = map[static_cast<std::size_t>(part.ids[at])] >= 0;
      n_here += is_here ? 1 : 0;
      for (std::size_t j = 0; j < hidden; ++j) {
        ASSERT_EQ(part.y[at * hidden + j], is_here ? everything.y[at * hidden + j] : 0.0);
      }
    }
    empty_rows += n_here == 0 ? 1 : 0;
    for (std::size_t j = 0; j < hidden; ++j) {
      double sum = 0;
      for (std::size_t at = r * top_k; at < (r + 1) * top_k; ++at) {
        sum += part.weights[at] * part.y[at * hidden + j];
      }
      if (GetParam().rounding.output_bf16) sum = round_bf16(sum);
      ASSERT_EQ(part.out[r * hidden + j], sum);
      if (n_here == 0) {
        ASSERT_EQ(part.out[r * hidden + j], 0.0);
      }
    }
  }
  EXPECT_GT(empty_rows, 0) << "the seed tests nothing";
}

TEST_P(MoeLayer, NothingOfAnEarlierCallRemains) {
  for (const MoeCase& c : moe_cases()) {
    const MoeProblem& problem = shared_problem(c, GetParam().dtype);
    const MoeWeights weights = problem.weights();
    const auto a = run<float>(problem, input_of(problem, weights), NAN);
    const auto b = run<float>(problem, input_of(problem, weights), 1e30f);
    EXPECT_EQ(a.out, b.out);
    EXPECT_EQ(a.h, b.h);
  }
}

INSTANTIATE_TEST_SUITE_P(Contracts, MoeLayer, testing::ValuesIn(kContracts),
                         [](const auto& contract) { return contract.param.name; });

TEST(Rounding, DoublesAreRoundedOnce) {
  // Just above the middle of 1 and 1 + 2^-7, by less than a float can tell.
  const double middle = 1 + 0x1p-8;
  EXPECT_EQ(round_bf16(middle), 1.0);
  EXPECT_EQ(round_bf16(middle + 0x1p-40), 1 + 0x1p-7);
  EXPECT_EQ(round_bf16(-middle - 0x1p-40), -1 - 0x1p-7);
  EXPECT_EQ(round_bf16(middle - 0x1p-40), 1.0);
  EXPECT_EQ(round_bf16(1 + 3 * 0x1p-8), 1 + 0x1p-6);
  EXPECT_EQ(round_bf16(1 + 3 * 0x1p-8 - 0x1p-45), 1 + 0x1p-7);
  EXPECT_TRUE(std::isnan(round_bf16(std::nan(""))));
  Rng rng(3);
  for (int i = 0; i < 10000; ++i) {
    const double value = normal(rng) * std::exp(20 * normal(rng));
    ASSERT_EQ(round_bf16(value), to_bf16_value(value)) << value;
  }
}

TEST(Rounding, Fp8ScalesPer128AndNeverByZero) {
  std::vector<double> x(300, 0.0);
  x[0] = 448;
  x[1] = 0.4375;            // code 0.4375 at scale 1
  x[130] = -2.0;            // the second block's largest
  x[131] = 2.0 * 17 / 448;  // halfway between codes 16 and 18: to even
  std::vector<double> codes(300), scales(3);
  quantise_fp8<double>(x, codes, scales);
  EXPECT_EQ(scales[0], 1.0);
  EXPECT_EQ(codes[0], 448);
  EXPECT_EQ(codes[1], 0.4375);
  EXPECT_EQ(scales[1], static_cast<double>(2.0f / 448.0f));
  EXPECT_EQ(codes[130], -448);
  EXPECT_EQ(codes[131], 16);
  EXPECT_GT(scales[2], 0);
  for (int i = 256; i < 300; ++i) EXPECT_EQ(codes[static_cast<std::size_t>(i)], 0);
}

}  // namespace
}  // namespace moeopt::cpu::reference
