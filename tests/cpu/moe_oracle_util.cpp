#include "cpu/moe_oracle_util.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>

namespace moeopt::cpu {
namespace {

using reference::InputRounding;
using reference::MoeRounding;
using Doubles = std::vector<double>;

MoeSpec spec_of(int experts, int top_k, int intermediate) {
  MoeSpec spec;
  spec.n_experts = experts;
  spec.top_k = top_k;
  spec.intermediate = intermediate;
  return spec;
}

MoeSpec deepseek_v3(int experts, int top_k, int intermediate) {
  MoeSpec spec = spec_of(experts, top_k, intermediate);
  spec.router.score = RouterScore::kSigmoid;
  spec.router.correction_bias = true;
  spec.router.n_groups = 4;
  spec.router.top_k_groups = 2;
  spec.router.group_score = GroupScore::kTopTwoSum;
  spec.router.renormalise_epsilon = 1e-20;
  spec.router.scale = 2.5;
  spec.shared_intermediate = intermediate;
  return spec;
}

// An input as a matrix product reads it, code times scale.
Doubles rounded(const Doubles& row, InputRounding rounding) {
  Doubles out = row;
  if (rounding == InputRounding::kBf16) {
    for (double& value : out) value = to_bf16_value(value);
  }
  if (rounding != InputRounding::kFp8) return out;
  for (std::size_t start = 0; start < row.size(); start += 128) {
    const std::size_t end = std::min(row.size(), start + 128);
    float largest = 1e-10f;
    for (std::size_t i = start; i < end; ++i) {
      largest = std::max(largest, std::fabs(static_cast<float>(row[i])));
    }
    const float scale = largest / 448.0f;
    for (std::size_t i = start; i < end; ++i) {
      out[i] = to_e4m3_value(static_cast<float>(row[i]) / scale) * static_cast<double>(scale);
    }
  }
  return out;
}

Doubles product(const StoredMatrix& w, const Doubles& x) {
  Doubles out(static_cast<std::size_t>(w.out));
  for (int o = 0; o < w.out; ++o) {
    for (int k = 0; k < w.in; ++k)
      out[static_cast<std::size_t>(o)] += w.at(o, k) * x[static_cast<std::size_t>(k)];
  }
  return out;
}

Doubles hidden_of(const StoredExpert& expert, const Doubles& x, const MoeRounding& rounding) {
  const Doubles g = product(expert.gate, x);
  Doubles h = product(expert.up, x);
  for (std::size_t i = 0; i < h.size(); ++i) h[i] *= g[i] / (1 + std::exp(-g[i]));
  return rounded(h, rounding.h);
}

double norm(const Doubles& v) {
  double sum = 0;
  for (const double value : v) sum += value * value;
  return std::sqrt(sum);
}

// Positions of the k largest, in descending order; `margin` shrinks to the gap below them.
std::vector<int> best(const Doubles& values, const std::vector<bool>& allowed, int k,
                      double& margin) {
  std::vector<int> order;
  for (int i = 0; i < static_cast<int>(values.size()); ++i) {
    if (allowed[static_cast<std::size_t>(i)]) order.push_back(i);
  }
  const auto value = [&](int i) { return values[static_cast<std::size_t>(i)]; };
  std::ranges::stable_sort(order, [&](int a, int b) { return value(a) > value(b); });
  // Order matters too: a slot's place decides where its term is added.
  for (int i = 0; i < k && i + 1 < static_cast<int>(order.size()); ++i) {
    margin = std::min(margin, value(order[static_cast<std::size_t>(i)]) -
                                  value(order[static_cast<std::size_t>(i) + 1]));
  }
  order.resize(static_cast<std::size_t>(k));
  return order;
}

void choose(const MoeProblem& problem, const Doubles& x, OracleRow& row) {
  const RouterSpec& router = problem.spec.router;
  const Doubles logits = product(problem.router, x);
  Doubles scores = logits;
  if (router.score == RouterScore::kSoftmax) {
    double sum = 0;
    for (double& s : scores) sum += s = std::exp(s - *std::ranges::max_element(logits));
    for (double& s : scores) s /= sum;
  } else {
    for (double& s : scores) s = 1 / (1 + std::exp(-s));
  }
  Doubles choice = scores;
  for (std::size_t e = 0; e < problem.bias.size(); ++e) choice[e] += problem.bias[e];

  row.margin = std::numeric_limits<double>::infinity();
  std::vector<bool> allowed(choice.size(), true);
  if (router.n_groups > 1) {
    const int size = problem.spec.n_experts / router.n_groups;
    Doubles groups;
    for (int g = 0; g < router.n_groups; ++g) {
      Doubles members(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      std::ranges::sort(members, std::greater<>());
      groups.push_back(router.group_score == GroupScore::kMax ? members[0]
                                                              : members[0] + members[1]);
    }
    const auto kept =
        best(groups, std::vector<bool>(groups.size(), true), router.top_k_groups, row.margin);
    for (std::size_t e = 0; e < allowed.size(); ++e) {
      allowed[e] = std::ranges::count(kept, static_cast<int>(e) / size) > 0;
    }
  }
  double sum = 0;
  for (const int e : best(choice, allowed, problem.spec.top_k, row.margin)) {
    row.ids.push_back(e);
    row.weights.push_back(scores[static_cast<std::size_t>(e)]);
    sum += row.weights.back();
  }
  for (double& w : row.weights) {
    if (router.renormalise) w /= sum + router.renormalise_epsilon;
    w *= router.scale;
  }
}

}  // namespace

std::vector<MoeCase> moe_cases() {
  MoeSpec qwen3 = spec_of(8, 3, 128);
  MoeSpec odd = spec_of(7, 2, 20);
  MoeSpec qwen2 = spec_of(6, 4, 96);
  qwen2.router.renormalise = false;
  qwen2.shared_intermediate = 160;
  qwen2.shared_expert_gate = true;
  MoeSpec v2 = spec_of(12, 3, 72);
  v2.router.renormalise = false;
  v2.router.n_groups = 3;
  v2.router.top_k_groups = 2;
  v2.router.scale = 16;
  v2.shared_intermediate = 144;
  MoeSpec one = spec_of(2, 1, 256);
  const MoeSpec deep = deepseek_v3(16, 4, 136);
  return {{"qwen3", qwen3, 256, 20},
          {"odd", odd, 44, 9},
          {"qwen2", qwen2, 192, 12},
          {"v2", v2, 136, 10},
          {"one", one, 384, 5},
          {"v3", deep, 140, 17},
          {"v3_small", deepseek_v3(8, 3, 24), 40, 6}};
}

MoeWeights MoeProblem::weights() const {
  MoeWeights w;
  w.spec = &spec;
  w.router = router.matrix;
  w.router_bias = bias;
  w.experts = expert_views;
  if (spec.shared_intermediate > 0) w.shared = shared.view();
  if (spec.shared_expert_gate) w.shared_expert_gate = shared_gate.matrix;
  return w;
}

MoeProblem make_problem(const MoeCase& c, DType dtype, std::uint64_t seed) {
  Rng rng(seed);
  MoeProblem problem;
  problem.spec = c.spec;
  problem.hidden = c.hidden;
  problem.rows = c.rows;
  const DType plain = dtype == DType::kF32 ? DType::kF32 : DType::kBF16;
  const auto matrix = [&](DType type, int out, int in, double gain) {
    return random_matrix(rng, type, out, in, gain / std::sqrt(in), dtype_bytes(type));
  };
  const auto expert = [&](int intermediate) {
    return StoredExpert{matrix(dtype, intermediate, c.hidden, 1.5),
                        matrix(dtype, intermediate, c.hidden, 1.5),
                        matrix(dtype, c.hidden, intermediate, 1.5)};
  };
  problem.router = matrix(plain, c.spec.n_experts, c.hidden, 2);
  if (c.spec.router.correction_bias) {
    problem.bias = random_rows(rng, static_cast<std::size_t>(c.spec.n_experts), 0.3);
  }
  for (int e = 0; e < c.spec.n_experts; ++e) {
    problem.experts.push_back(expert(c.spec.intermediate));
    problem.expert_views.push_back(problem.experts.back().view());
  }
  if (c.spec.shared_intermediate > 0) problem.shared = expert(c.spec.shared_intermediate);
  if (c.spec.shared_expert_gate) problem.shared_gate = matrix(plain, 1, c.hidden, 1);

  constexpr double kSafeMargin = 1e-4;
  const bool bf16_rows = dtype == DType::kF8E4M3;
  problem.x.resize(static_cast<std::size_t>(c.rows * c.hidden));
  for (int r = 0; r < c.rows; ++r) {
    const std::span<float> row = std::span(problem.x).subspan(
        static_cast<std::size_t>(r * c.hidden), static_cast<std::size_t>(c.hidden));
    double margin = 0;
    while (margin < kSafeMargin) {
      std::ranges::copy(random_rows(rng, row.size(), 1.0, bf16_rows), row.begin());
      margin = std::numeric_limits<double>::infinity();
      for (const bool round_x : {false, true}) {
        OracleRow decided;
        const Doubles x(row.begin(), row.end());
        choose(problem, rounded(x, round_x ? InputRounding::kBf16 : InputRounding::kNone), decided);
        margin = std::min(margin, decided.margin);
      }
    }
  }
  return problem;
}

const MoeProblem& shared_problem(const MoeCase& c, DType dtype) {
  static std::map<std::pair<std::string, DType>, std::unique_ptr<MoeProblem>> problems;
  auto& problem = problems[{c.name, dtype}];
  if (!problem) problem = std::make_unique<MoeProblem>(make_problem(c, dtype, 11));
  return *problem;
}

OracleRow oracle_row(const MoeProblem& problem, int row, const MoeRounding& rounding,
                     const std::vector<Doubles>* given_h) {
  const auto hidden = static_cast<std::size_t>(problem.hidden);
  const float* start = problem.x.data() + static_cast<std::size_t>(row) * hidden;
  const Doubles x(start, start + hidden);
  OracleRow result;
  const Doubles x_router =
      rounded(x, rounding.x == InputRounding::kNone ? InputRounding::kNone : InputRounding::kBf16);
  choose(problem, x_router, result);

  const Doubles x_expert = rounded(x, rounding.x);
  result.out.assign(hidden, 0.0);
  const auto add = [&](const StoredExpert& expert, const Doubles& h, double weight) {
    Doubles y = product(expert.down, h);
    if (rounding.y_bf16) {
      for (double& value : y) value = to_bf16_value(value);
    }
    for (std::size_t j = 0; j < hidden; ++j) result.out[j] += weight * y[j];
    result.scale += std::fabs(weight) * norm(y);
    return y;
  };
  for (std::size_t slot = 0; slot < result.ids.size(); ++slot) {
    const StoredExpert& expert = problem.experts[static_cast<std::size_t>(result.ids[slot])];
    result.h.push_back(given_h ? (*given_h)[slot] : hidden_of(expert, x_expert, rounding));
    result.y.push_back(add(expert, result.h.back(), result.weights[slot]));
  }
  if (problem.spec.shared_intermediate > 0) {
    double weight = 1;
    if (problem.spec.shared_expert_gate) {
      weight = 1 / (1 + std::exp(-product(problem.shared_gate, x_router)[0]));
    }
    add(problem.shared, hidden_of(problem.shared, x_expert, rounding), weight);
  }
  if (rounding.output_bf16) {
    for (double& value : result.out) value = to_bf16_value(value);
  }
  return result;
}

MoeError moe_error(std::span<const float> got, const std::vector<OracleRow>& wanted) {
  MoeError error;
  double all_errors = 0, all = 0;
  std::size_t i = 0;
  for (const OracleRow& row : wanted) {
    double squares = 0;
    for (const double value : row.out) {
      const double difference = got[i++] - value;
      squares += difference * difference;
    }
    const double size = norm(row.out);
    // Written so that NaN counts as infinitely wrong.
    const double relative = std::sqrt(squares) / std::max(size, row.scale);
    if (!(relative <= error.worst_row)) {
      error.worst_row = std::isnan(relative) ? std::numeric_limits<double>::infinity() : relative;
    }
    all_errors += squares;
    all += size * size;
  }
  error.frobenius = std::sqrt(all_errors / all);
  if (std::isnan(error.frobenius)) error.frobenius = std::numeric_limits<double>::infinity();
  return error;
}

}  // namespace moeopt::cpu
