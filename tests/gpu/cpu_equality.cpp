// The float64 reference on the device against cpu/reference in double, which is the specification:
// h, y, output, routes and weights of small layers of every kind.
#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "cpu/reference/moe_layer.h"
#include "gpu/groups.h"
#include "gpu/rig.h"

namespace moeopt::gpu_test {
namespace {

namespace cpu_reference = cpu::reference;

constexpr double kBound = 1e-12;  // of a difference, relative to the largest value
constexpr int kFp8Block = 128;

// Weights in host memory as the CPU reads them: dense.
class HostMatrix {
 public:
  HostMatrix() = default;
  HostMatrix(const Arena& arena, const MatrixSet& set, int index) {
    const std::size_t element = set.scale != nullptr ? 1 : 2;
    const auto rows = static_cast<std::size_t>(set.rows);
    const auto cols = static_cast<std::size_t>(set.cols);
    const auto stride = static_cast<std::size_t>(set.stride);
    const std::vector<std::byte> strided =
        arena.download(static_cast<const std::byte*>(set.data) +
                           static_cast<std::size_t>(index) * rows * stride * element,
                       rows * stride * element);
    bytes_.resize(rows * cols * element);
    for (std::size_t r = 0; r < rows; ++r) {
      std::memcpy(bytes_.data() + r * cols * element, strided.data() + r * stride * element,
                  cols * element);
    }
    matrix_.weight = {
        set.scale != nullptr ? DType::kF8E4M3 : DType::kBF16, {set.rows, set.cols}, bytes_.data()};
    if (set.scale == nullptr) return;
    const std::size_t blocks = rows / kFp8Block * (cols / kFp8Block);
    scales_ = arena.download(set.scale + static_cast<std::size_t>(index) * blocks, blocks);
    matrix_.scale_inv = {DType::kF32,
                         {set.rows / kFp8Block, set.cols / kFp8Block},
                         reinterpret_cast<const std::byte*>(scales_.data())};
  }
  HostMatrix(HostMatrix&&) = default;  // a vector's memory does not move with it
  HostMatrix& operator=(HostMatrix&&) = default;
  const cpu::Matrix& get() const { return matrix_; }

 private:
  std::vector<std::byte> bytes_;
  std::vector<float> scales_;
  cpu::Matrix matrix_;
};

struct HostExpert {
  HostMatrix gate, up, down;
  HostExpert(const Arena& arena, const ExpertSet& set, int index)
      : gate(arena, set.gate, index), up(arena, set.up, index), down(arena, set.down, index) {}
  cpu::SwigluWeights view() const { return {gate.get(), up.get(), down.get()}; }
};

MoeSpec spec_of(const moeopt_moe_desc& desc, bool bias) {
  MoeSpec spec;
  spec.n_experts = desc.experts;
  spec.top_k = desc.top_k;
  spec.intermediate = desc.intermediate;
  spec.shared_intermediate = desc.shared_intermediate;
  spec.shared_expert_gate = desc.shared_gate != 0;
  RouterSpec& r = spec.router;
  r.score = desc.score == MOEOPT_SIGMOID ? RouterScore::kSigmoid : RouterScore::kSoftmax;
  r.correction_bias = bias;
  r.n_groups = std::max(desc.groups, 1);
  r.top_k_groups = std::max(desc.top_k_groups, 1);
  r.group_score = desc.group_score == MOEOPT_GROUP_TOP2 ? GroupScore::kTopTwoSum : GroupScore::kMax;
  r.renormalise = desc.renormalise != 0;
  r.renormalise_epsilon = desc.renormalise_epsilon;
  r.scale = desc.scale == 0 ? 1.0 : static_cast<double>(desc.scale);
  return spec;
}

// The results of cpu/reference.
struct CpuRun {
  std::vector<double> out, h, y, weights;
  std::vector<std::int32_t> ids;
};

CpuRun run_cpu(const Arena& arena, const moeopt_moe_desc& desc, const Experts& experts,
               const Inputs& inputs, bool round_rows) {
  const auto rows = static_cast<std::size_t>(inputs.rows);
  const auto hidden = static_cast<std::size_t>(desc.hidden);
  const auto k = static_cast<std::size_t>(desc.top_k);
  const MoeSpec spec = spec_of(desc, !inputs.bias.empty());
  std::vector<HostExpert> host;
  std::vector<cpu::SwigluWeights> views;
  for (int e = 0; e < experts.plan().slots; ++e) {
    host.emplace_back(arena, experts.reference().experts, e);
    views.push_back(host.back().view());
  }
  const auto row_matrix = [&](const Bf16Bits* data, int n) {
    return data == nullptr ? HostMatrix()
                           : HostMatrix(arena, {data, nullptr, n, desc.hidden, desc.hidden}, 0);
  };
  const HostMatrix router = row_matrix(inputs.router, desc.experts);
  const HostMatrix shared_gate = row_matrix(inputs.shared_gate, 1);
  cpu::MoeWeights weights;
  std::optional<HostExpert> shared;
  if (desc.shared_intermediate > 0) {
    shared.emplace(arena, experts.reference().shared, 0);
    weights.shared = shared->view();
  }
  weights.spec = &spec;
  weights.router = router.get();
  weights.router_bias = inputs.bias;
  weights.experts = views;
  weights.shared_expert_gate = shared_gate.get();

  const std::vector<Bf16Bits> bits =
      arena.download(inputs.x, rows * static_cast<std::size_t>(inputs.x_stride));
  std::vector<float> x;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t j = 0; j < hidden; ++j) {
      x.push_back(to_float(Bf16{bits[r * static_cast<std::size_t>(inputs.x_stride) + j]}));
    }
  }
  CpuRun run;
  run.out.resize(rows * hidden);
  run.ids.resize(rows * k);
  run.weights.resize(rows * k);
  run.h.resize(rows * k * static_cast<std::size_t>(desc.intermediate));
  run.y.resize(rows * k * hidden);
  cpu_reference::MoeLayerInput input;
  input.x = x;
  input.rows = inputs.rows;
  input.hidden = desc.hidden;
  input.weights = &weights;
  input.rounding = desc.dtype == MOEOPT_FP8 ? cpu_reference::kMoeFp8 : cpu_reference::kMoeBf16;
  input.rounding.y_bf16 = input.rounding.output_bf16 = round_rows;
  input.given_ids = inputs.ids;
  input.given_weights = inputs.weights;
  input.expert_map = inputs.map;
  std::vector<double> scratch(cpu_reference::moe_layer_scratch(spec, desc.hidden));
  cpu_reference::moe_layer<double>(input, {run.out, run.ids, run.weights, run.h, run.y}, scratch);
  return run;
}

// What the suite's own routing makes of the same rows.
Assignment route(Case& c, Arena& arena, const moeopt_moe_desc& desc, const Inputs& inputs,
                 const CpuRun& wanted) {
  Assignment a;
  a.rows = inputs.rows;
  a.top_k = desc.top_k;
  if (inputs.router == nullptr) {
    a.weights.assign(inputs.weights.begin(), inputs.weights.end());
    for (const std::int32_t id : inputs.ids) a.slots.push_back(inputs.slot_of(id));
    return a;
  }
  const std::vector<double> logits = reference_logits(arena, inputs.x, inputs.x_stride, inputs.rows,
                                                      desc.hidden, inputs.router, desc.experts);
  const Router router(desc, inputs.bias);
  const auto e = static_cast<std::size_t>(desc.experts);
  const auto k = static_cast<std::size_t>(desc.top_k);
  for (std::size_t row = 0; row < static_cast<std::size_t>(inputs.rows); ++row) {
    const auto row_logits = std::span(logits).subspan(row * e, e);
    const RoutedRow routed = router.decide(row_logits);
    const auto wanted_ids = std::span(wanted.ids).subspan(row * k, k);
    c.expect(std::ranges::equal(routed.ids, wanted_ids), fmt::format("ids of row {} differ", row));
    c.expect(!router.fault_of(row_logits, wanted_ids), "the right choice was called wrong");
    const std::vector<double> weights = router.weights_of(row_logits, wanted_ids);
    for (std::size_t s = 0; s < k; ++s) {
      const double right = wanted.weights[row * k + s];
      c.expect(std::fabs(weights[s] - right) <= kBound * right, "weights differ");
      a.weights.push_back(routed.weights[s]);
      a.slots.push_back(inputs.slot_of(routed.ids[s]));
    }
  }
  return a;
}

void compare(Case& c, const char* what, const std::vector<double>& got, const double* wanted) {
  double largest = 0;
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::fabs(wanted[i]));
    const double error = std::fabs(got[i] - wanted[i]);
    worst = std::isfinite(error) ? std::max(worst, error) : INFINITY;
  }
  c.expect(worst <= kBound * largest,
           fmt::format("{} differs by {:.2e} of {:.2e}", what, worst, largest));
}

void compare_pairs(Case& c, const char* what, const Arena& arena, const ReferenceRun& run,
                   const double* got, const std::vector<double>& wanted, int cols) {
  const auto n = static_cast<std::size_t>(cols);
  const std::vector<double> all = arena.download(got, static_cast<std::size_t>(run.pairs) * n);
  for (int pair = 0; pair < run.pairs; ++pair) {
    const auto first =
        all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(pair) * n);
    const auto place = static_cast<std::size_t>(run.place_of_pair[static_cast<std::size_t>(pair)]);
    compare(c, what, {first, first + static_cast<std::ptrdiff_t>(n)}, wanted.data() + place * n);
  }
}

CasePlan small_case(std::uint64_t seed, bool fp8) {
  CasePlan plan = draw_case(seed);
  Rng rng(seed);
  moeopt_moe_desc& desc = plan.desc;
  const int unit = fp8 ? 128 : 64;
  desc.dtype = fp8 ? MOEOPT_FP8 : MOEOPT_BF16;
  desc.hidden = unit * rng.between(1, 3);
  desc.intermediate = unit * rng.between(1, 3);
  if (desc.shared_intermediate > 0) desc.shared_intermediate = unit * rng.between(1, 3);
  plan.batch.tokens = rng.between(1, 9);
  desc.max_tokens = 16;
  desc.tile_tokens = 0;           // nothing is launched
  plan.batch.absent_ids = false;  // the CPU has no such ids
  const ExpertsPlan drawn = plan.experts;
  plan.experts = plain_experts(desc, seed);
  plan.experts.row_padding = drawn.row_padding;
  if (fp8 && drawn.source == MOEOPT_SOURCE_BF16_TO_FP8) plan.experts.source = drawn.source;
  return plan;
}

}  // namespace

void test_reference(Suite& suite, Arena& arena) {
  if (!suite.begin("reference")) return;
  constexpr int kCases = 40;
  for (int i = 0; i < kCases; ++i) {
    suite.run(std::to_string(i), [&](Case& c, std::uint64_t seed) {
      const Arena::Scope scope(arena);
      const CasePlan plan = small_case(seed, i % 2 == 1);
      const bool round_rows = i % 4 < 2;  // without, differences below a rounding show
      c.describe(text_of(plan.desc, plan.batch));
      const LayerHandle layer = make_layer(plan.desc);
      const Experts experts(arena, plan.experts, layer.get());
      const Inputs inputs =
          make_inputs(arena, plan.desc, plan.batch, plan.batch.tokens, mix(seed, "batch"));
      const CpuRun wanted = run_cpu(arena, plan.desc, experts, inputs, round_rows);
      const Assignment assignment = route(c, arena, plan.desc, inputs, wanted);
      ReferenceLayer reference = experts.reference();
      reference.shared_gate = inputs.shared_gate;
      reference.round_rows = round_rows;
      const ReferenceRun run =
          run_reference(arena, reference, inputs.x, inputs.x_stride, assignment);
      compare(c, "out", arena.download(run.out, wanted.out.size()), wanted.out.data());
      compare_pairs(c, "h", arena, run, run.h, wanted.h, plan.desc.intermediate);
      compare_pairs(c, "y", arena, run, run.y, wanted.y, plan.desc.hidden);
    });
  }
}

}  // namespace moeopt::gpu_test
