// A MoE layer written a second time, from the equations alone, in float64: what moe_layer and every
// CpuOps::moe are held against, and the bounds they are held to.
// Invariant: shares no code with src/; rows are chosen so that no routing decision hangs on a
// rounding.
#pragma once

#include <string>
#include <vector>

#include "cpu/reference/moe_layer.h"
#include "cpu/tensor_data_util.h"

namespace moeopt::cpu {

struct MoeCase {
  std::string name;
  MoeSpec spec;
  int hidden;
  int rows;
};

// Every router this program knows, with odd and with round extents.
std::vector<MoeCase> moe_cases();

struct StoredExpert {
  StoredMatrix gate, up, down;
  SwigluWeights view() const { return {gate.matrix, up.matrix, down.matrix}; }
};

// A layer's weights and rows to run through it.
struct MoeProblem {
  MoeSpec spec;
  int hidden = 0, rows = 0;
  StoredMatrix router, shared_gate;
  std::vector<float> bias;
  std::vector<StoredExpert> experts;
  StoredExpert shared;
  std::vector<SwigluWeights> expert_views;
  std::vector<float> x;  // [rows, hidden]

  MoeWeights weights() const;
};

// Weights in `dtype`, the router in f32 with f32 experts and else in bf16. With fp8 the rows are
// bf16 numbers. Rows whose choice of experts is close are drawn again.
MoeProblem make_problem(const MoeCase& c, DType dtype, std::uint64_t seed);

// The same with one seed, made once for all tests.
const MoeProblem& shared_problem(const MoeCase& c, DType dtype);

struct OracleRow {
  std::vector<std::int32_t> ids;
  std::vector<double> weights;
  std::vector<std::vector<double>> h;  // per slot, as the down projection reads it
  std::vector<std::vector<double>> y;  // per slot
  std::vector<double> out;
  double scale = 0;   // sum of |w| ||y||: what errors are divided by when the sum cancels
  double margin = 0;  // of the closest decision, in selection values
};

// `given_h`: use these instead of computing them, [slot][intermediate].
OracleRow oracle_row(const MoeProblem& problem, int row, const reference::MoeRounding& rounding,
                     const std::vector<std::vector<double>>* given_h = nullptr);

// Over all rows: ||error|| / ||wanted||, and the worst row's ||error|| / max(||wanted||, scale).
struct MoeError {
  double frobenius = 0;
  double worst_row = 0;
};
MoeError moe_error(std::span<const float> got, const std::vector<OracleRow>& wanted);

}  // namespace moeopt::cpu
