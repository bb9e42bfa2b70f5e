// The fast tiles against Transformers' float32, on every golden checkpoint and instruction set: the
// stored contract rounds the products' inputs to bf16, so logits may differ by 2e-2, and a near tie
// in the router may go the other way.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cpu/fast_util.h"
#include "cpu/golden_util.h"
#include "cpu/recording_ops.h"
#include "cpu/runner_util.h"

namespace moeopt::cpu {
namespace {

constexpr double kTolerance = 2e-2;  // of the logits of those positions, relative Frobenius
constexpr double kSameRoutes = 0.95;

// Which positions chose the golden's experts in every layer.
std::vector<bool> routed_equally(const Golden& golden, std::span<const RecordedRouting> routing) {
  std::vector<bool> same(golden.prompt.size(), true);
  std::size_t call = 0;
  for (const GoldenLayer& layer : golden.routing) {
    if (layer.experts.empty()) continue;
    const RecordedRouting& got = routing[call++];
    const auto top_k = static_cast<std::size_t>(got.top_k);
    for (std::size_t position = 0; position < same.size(); ++position) {
      const auto first = got.experts.begin() + static_cast<std::ptrdiff_t>(position * top_k);
      std::vector<std::int32_t> experts(first, first + static_cast<std::ptrdiff_t>(top_k));
      std::ranges::sort(experts);
      if (experts != layer.experts[position]) same[position] = false;
    }
  }
  return same;
}

class GoldenFastTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenFastTest, LogitsAreWithinBf16OfTransformers) {
  std::size_t n_positions = 0, n_same = 0;
  for (const std::string& name : golden_names()) {
    const Golden golden = load_golden(name);
    const LoadedModel model = load_model(golden.folder);
    const int length = static_cast<int>(golden.prompt.size());
    const ExecutionLimits limits = small_limits(1, length, 4, (length + 3) / 4);
    std::vector<RecordedRouting> routing;
    CpuBackend backend(model.spec, *model.source, limits,
                       std::make_unique<RecordingOps>(make_fast_ops(2, GetParam()), routing));
    const auto logits = logits_of(backend, 0, golden.prompt, 0, plain_table(limits));
    ASSERT_EQ(logits.size(), golden.logits.size());
    const auto same = routed_equally(golden, routing);
    const auto vocab = static_cast<std::size_t>(golden.vocab);
    double error = 0, norm = 0;
    for (std::size_t position = 0; position < same.size(); ++position) {
      if (!same[position]) continue;
      for (std::size_t i = position * vocab; i < (position + 1) * vocab; ++i) {
        const double wanted = golden.logits[i];
        error += (logits[i] - wanted) * (logits[i] - wanted);
        norm += wanted * wanted;
      }
    }
    const double relative = std::sqrt(error / norm);
    EXPECT_LE(relative, kTolerance) << name;
    EXPECT_GT(relative, 0.0) << name << ": not even rounded";
    n_positions += same.size();
    n_same += static_cast<std::size_t>(std::ranges::count(same, true));
  }
  EXPECT_GT(n_positions, 200u);
  EXPECT_GE(static_cast<double>(n_same), kSameRoutes * static_cast<double>(n_positions));
  RecordProperty("positions", static_cast<int>(n_positions));
  RecordProperty("routed_equally", static_cast<int>(n_same));
}

INSTANTIATE_TEST_SUITE_P(Isas, GoldenFastTest, testing::ValuesIn(isas()));

}  // namespace
}  // namespace moeopt::cpu
