// CpuOps::moe of every implementation of this machine, on every router and dtype.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "cpu/moe_oracle_util.h"
#include "cpu/ops_under_test.h"

namespace moeopt::cpu {
namespace {

struct Result {
  std::vector<std::int32_t> ids;
  std::vector<float> weights, out;
  bool operator==(const Result&) const = default;
};

class MoeTable : public testing::TestWithParam<OpsUnderTest> {
 protected:
  MoeTable() : ops_(GetParam().make()), scratch_(32 << 20) {
    std::ranges::fill(scratch_.as<float>(), NAN);
    ops_->set_scratch(scratch_.bytes());
  }

  reference::MoeRounding rounding_of(DType dtype) const {
    return GetParam().rounds_inputs && dtype != DType::kF32 ? reference::kMoeCpuStored
                                                            : reference::kMoeF32;
  }

  Result run(const MoeProblem& problem, int first, int rows) {
    const auto n = static_cast<std::size_t>(rows);
    const auto top_k = static_cast<std::size_t>(problem.spec.top_k);
    const auto hidden = static_cast<std::size_t>(problem.hidden);
    Result result{std::vector<std::int32_t>(n * top_k, -7), std::vector<float>(n * top_k, NAN),
                  std::vector<float>(n * hidden, NAN)};
    ops_->moe(problem.x.data() + static_cast<std::size_t>(first) * hidden, rows, problem.weights(),
              {result.ids, result.weights}, result.out.data());
    return result;
  }
  Result run(const MoeProblem& problem) { return run(problem, 0, problem.rows); }

  std::unique_ptr<CpuOps> ops_;
  Buffer scratch_;
};

constexpr DType kDtypes[] = {DType::kF32, DType::kBF16, DType::kF8E4M3};

TEST_P(MoeTable, KeepsTheBounds) {
  for (const DType dtype : kDtypes) {
    for (const MoeCase& c : moe_cases()) {
      SCOPED_TRACE(testing::Message() << c.name << " " << dtype_name(dtype));
      const MoeProblem& problem = shared_problem(c, dtype);
      const Result got = run(problem);
      const auto top_k = static_cast<std::size_t>(c.spec.top_k);
      std::vector<OracleRow> wanted;
      for (int r = 0; r < c.rows; ++r) {
        wanted.push_back(oracle_row(problem, r, rounding_of(dtype)));
        for (std::size_t slot = 0; slot < top_k; ++slot) {
          const std::size_t at = static_cast<std::size_t>(r) * top_k + slot;
          EXPECT_EQ(got.ids[at], wanted.back().ids[slot]) << "row " << r << " slot " << slot;
          EXPECT_NEAR(got.weights[at], wanted.back().weights[slot],
                      5e-6 * std::max(1.0, c.spec.router.scale));
        }
      }
      const MoeError error = moe_error(got.out, wanted);
      // Rounded h may fall either way at a boundary; one that is not rounded at all gives 1e-3.
      const bool rounds = rounding_of(dtype).h != reference::InputRounding::kNone;
      EXPECT_LE(error.frobenius, rounds ? 3e-4 : 5e-6);
      EXPECT_LE(error.worst_row, rounds ? 8e-4 : 1e-5);
    }
  }
}

TEST_P(MoeTable, ARowsBitsAreItsOwn) {
  for (const DType dtype : kDtypes) {
    for (const MoeCase& c : moe_cases()) {
      SCOPED_TRACE(testing::Message() << c.name << " " << dtype_name(dtype));
      const MoeProblem& problem = shared_problem(c, dtype);
      const Result all = run(problem);
      for (int r = 0; r < c.rows; ++r) {
        const Result alone = run(problem, r, 1);
        ASSERT_EQ(std::memcmp(alone.out.data(), all.out.data() + r * c.hidden,
                              alone.out.size() * sizeof(float)),
                  0)
            << "row " << r;
        ASSERT_TRUE(
            std::equal(alone.ids.begin(), alone.ids.end(), all.ids.begin() + r * c.spec.top_k));
      }
      // Two runs of the same rows, another model's between them.
      const MoeProblem& other = shared_problem(moe_cases()[0], dtype);
      run(other);
      EXPECT_EQ(run(problem), all);
    }
  }
}

TEST_P(MoeTable, EqualExpertsTieToTheLowerId) {
  MoeCase c = moe_cases()[0];
  MoeProblem problem = make_problem(c, DType::kBF16, 24);
  // All experts' router rows become expert 0's.
  const std::size_t row_bytes = static_cast<std::size_t>(c.hidden) * 2;
  auto* rows = const_cast<std::byte*>(problem.router.matrix.weight.data);
  for (int e = 1; e < c.spec.n_experts; ++e) {
    std::memcpy(rows + static_cast<std::size_t>(e) * row_bytes, rows, row_bytes);
  }
  const Result got = run(problem);
  for (std::size_t i = 0; i < got.ids.size(); ++i) {
    EXPECT_EQ(got.ids[i], static_cast<int>(i % 3));
    EXPECT_NEAR(got.weights[i], 1.0 / 3, 1e-6);
  }
}

TEST_P(MoeTable, ARowOfNanSpoilsNoOther) {
  for (const DType dtype : kDtypes) {
    MoeProblem problem = make_problem(moe_cases()[2], dtype, 25);
    const Result clean = run(problem);
    problem.x[static_cast<std::size_t>(3 * problem.hidden + 1)] = NAN;
    const Result got = run(problem);
    for (std::size_t i = 0; i < got.out.size(); ++i) {
      if (i / static_cast<std::size_t>(problem.hidden) == 3) {
        EXPECT_TRUE(std::isnan(got.out[i]));
      } else {
        ASSERT_EQ(got.out[i], clean.out[i]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, MoeTable, testing::ValuesIn(ops_under_test()),
                         [](const auto& ops) { return name_of(ops.param); });

}  // namespace
}  // namespace moeopt::cpu
