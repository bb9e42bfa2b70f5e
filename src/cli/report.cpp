#include "cli/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "base/strings.h"
#include "model/inspect.h"
#include "plan/report.h"

namespace moeopt::cli {
namespace {

constexpr std::array<std::string_view, 9> kEighths = {"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::size_t kMaxBars = 64;  // more experts than that share bars

// One bar per expert, or per run of experts, its height relative to the highest.
std::string bars(std::span<const std::uint64_t> rows) {
  const std::size_t per_bar = (rows.size() + kMaxBars - 1) / kMaxBars;
  std::vector<std::uint64_t> sums;
  for (std::size_t i = 0; i < rows.size(); i += per_bar) {
    const auto run = rows.subspan(i, std::min(per_bar, rows.size() - i));
    sums.push_back(std::accumulate(run.begin(), run.end(), std::uint64_t{0}));
  }
  const std::uint64_t most =
      std::max<std::uint64_t>(1, *std::max_element(sums.begin(), sums.end()));
  std::string text;
  for (const std::uint64_t sum : sums) {
    text += kEighths[static_cast<std::size_t>((sum * 8 + most - 1) / most)];
  }
  return text;
}

std::string busiest(std::span<const std::uint64_t> rows, std::size_t n) {
  std::vector<std::size_t> order(rows.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  n = std::min(n, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(),
                    [&rows](std::size_t a, std::size_t b) {
                      return rows[a] != rows[b] ? rows[a] > rows[b] : a < b;
                    });
  const auto sum = std::accumulate(rows.begin(), rows.end(), std::uint64_t{0});
  std::string text;
  for (std::size_t i = 0; i < n; ++i) {
    const double share = 100.0 * static_cast<double>(rows[order[i]]) / static_cast<double>(sum);
    text += fmt::format("{}#{} {:.0f}%", i > 0 ? "  " : "", order[i], share);
  }
  return text;
}

}  // namespace

std::string experts_text(const ExpertCounts& counts) {
  std::string text;
  for (int layer = 0; layer < counts.n_layers(); ++layer) {
    if (counts.n_experts(layer) == 0 || counts.n_used(layer) == 0) continue;
    const auto rows = counts.layer(layer);
    text += fmt::format("  layer {:>3}  {}  {:>3}/{} used, busiest {}, max/mean {:.2f}\n", layer,
                        bars(rows), counts.n_used(layer), counts.n_experts(layer), busiest(rows, 3),
                        counts.imbalance(layer));
  }
  return text;
}

std::string report_text(const RunReport& report) {
  const MemoryPlan& plan = *report.plan;
  const RankPlan& rank = plan.per_rank.front();
  const ModelCounts counts = count_parameters(*report.spec);
  std::string text;
  text += fmt::format("model    {}: {}, {} layers, {} parameters, {} active a token\n",
                      report.model_name, report.spec->architecture, report.spec->layers.size(),
                      format_count(static_cast<double>(counts.total)),
                      format_count(static_cast<double>(counts.active)));
  text += fmt::format(
      "plan     {} weights + {} KV ({} sequences, context {}) + {} workspace = {} on {}\n",
      format_bytes(rank.weight_bytes()), format_bytes(rank.kv_bytes), plan.limits.max_sequences,
      plan.limits.max_model_len, format_bytes(rank.workspace_bytes),
      format_bytes(rank.weight_bytes() + rank.kv_bytes + rank.workspace_bytes),
      report.backend_name);
  text += "optimisations\n" + optimisations_text(report.optimisations);
  text +=
      fmt::format("experts  {} rows\n{}", report.experts->total(), experts_text(*report.experts));
  return text;
}

}  // namespace moeopt::cli
