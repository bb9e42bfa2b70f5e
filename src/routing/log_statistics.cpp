#include "routing/log_statistics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/error.h"

namespace moeopt {
namespace {

void check_same(const RoutingHeader& first, const RoutingHeader& other,
                const std::filesystem::path& file) {
  const char* field = nullptr;
  if (other.layers != first.layers) field = "layers_logged";
  if (other.n_experts != first.n_experts) field = "n_experts";
  if (other.top_k != first.top_k) field = "top_k";
  if (field == nullptr) return;
  throw_error(ErrorCode::kInvalidData, "{}: another \"{}\" than the first file", file.string(),
              field);
}

bool counts(const RouteSpan& span, const StatisticsOptions& options) {
  return !span.replayed && (options.phase == RoutePhase::kUnknown || span.phase == options.phase);
}

// Calls on_token(first slot of the row) for each token that counts, in the log's order.
template <typename OnToken>
void for_each_token(const RequestRoutes& routes, const StatisticsOptions& options,
                    std::size_t stride, OnToken on_token) {
  std::size_t row = 0;
  for (const RouteSpan& span : routes.spans) {
    if (counts(span, options)) {
      for (std::size_t t = 0; t < span.n_tokens; ++t) on_token((row + t) * stride);
    }
    row += span.n_tokens;
  }
}

void count_spans(const RequestRoutes& routes, const StatisticsOptions& options,
                 LogStatistics& out) {
  out.counted.requests += 1;
  out.counted.cached_tokens += routes.cached_tokens;
  for (const RouteSpan& span : routes.spans) {
    if (span.replayed) out.counted.replayed_tokens += span.n_tokens;
    if (!counts(span, options)) continue;
    out.counted.tokens += span.n_tokens;
    if (span.phase == RoutePhase::kPrefill) out.prefill_tokens += span.n_tokens;
    if (span.phase == RoutePhase::kDecode) out.decode_tokens += span.n_tokens;
  }
}

// A part's totals are of the whole recording up to its end: the largest of a recording's count.
void add_stated(const RoutingHeader& header, const RoutingTotals& stated, std::size_t file,
                std::map<std::string, RoutingTotals>& recordings) {
  const std::string name =
      header.started.empty() ? fmt::format("file {}", file) : header.started + header.program;
  RoutingTotals& totals = recordings[name];
  totals.dropped_requests = std::max(totals.dropped_requests, stated.dropped_requests);
  totals.dropped_tokens = std::max(totals.dropped_tokens, stated.dropped_tokens);
  totals.unsampled_requests = std::max(totals.unsampled_requests, stated.unsampled_requests);
}

class TokenCounter {
 public:
  TokenCounter(const StatisticsOptions& options, LogStatistics& out)
      : options_(options),
        out_(out),
        top_k_(static_cast<std::size_t>(out.header.top_k)),
        every_(options.kept_tokens == 0
                   ? 0
                   : std::max<std::uint64_t>(1, out.counted.tokens / 2 / options.kept_tokens)) {
    const auto n = static_cast<std::size_t>(out.header.n_experts);
    out.layers.resize(out.header.layers.size());
    for (LayerCounts& layer : out.layers) {
      layer.windows.assign(static_cast<std::size_t>(options.windows), std::vector<double>(n, 0.0));
      if (options.together) layer.together.assign(n * n, 0.0f);
    }
  }

  void add(const RequestRoutes& routes) {
    const std::size_t stride = out_.layers.size() * top_k_;
    for_each_token(routes, options_, stride, [&](std::size_t first) {
      for (std::size_t layer = 0; layer < out_.layers.size(); ++layer) {
        add_row(out_.layers[layer], std::span(routes.ids).subspan(first + layer * top_k_, top_k_));
      }
      ++n_;
    });
  }

 private:
  void add_row(LayerCounts& layer, std::span<const std::uint16_t> ids) {
    if (ids.front() == kNoExpert) return;
    const bool first_half = n_ * 2 < out_.counted.tokens;
    const std::uint64_t window = n_ * static_cast<std::uint64_t>(options_.windows) /
                                 std::max<std::uint64_t>(1, out_.counted.tokens);
    std::vector<double>& rows = layer.windows[static_cast<std::size_t>(window)];
    const auto end = std::ranges::find(ids, kNoExpert);
    for (auto id = ids.begin(); id != end; ++id) {
      rows[*id] += 1;
      if (!options_.together || !first_half) continue;
      for (auto other = ids.begin(); other != end; ++other) {
        if (other != id) layer.together[*id * rows.size() + *other] += 1.0f;
      }
    }
    if (every_ == 0 || n_ % every_ != 0) return;
    std::vector<std::uint16_t>& kept = first_half ? layer.kept_first : layer.kept_second;
    if (kept.size() < options_.kept_tokens * top_k_)
      kept.insert(kept.end(), ids.begin(), ids.end());
  }

  const StatisticsOptions& options_;
  LogStatistics& out_;
  std::size_t top_k_;
  std::uint64_t every_;
  std::uint64_t n_ = 0;
};

}  // namespace

std::vector<double> LayerCounts::total() const {
  std::vector<double> sum(windows.front().size(), 0.0);
  for (const auto& window : windows) {
    for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += window[e];
  }
  return sum;
}

LogStatistics read_statistics(std::span<const std::filesystem::path> files,
                              const StatisticsOptions& options) {
  LogStatistics out;
  RequestRoutes routes;
  std::map<std::string, RoutingTotals> recordings;
  // The first pass says how many tokens there are, so that the second knows its windows.
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto reader = open_routing_log(files[i]);
    if (i == 0) {
      out.header = reader->header();
    } else {
      check_same(out.header, reader->header(), files[i]);
    }
    while (reader->next(routes)) count_spans(routes, options, out);
    out.records += reader->records();
    out.truncated = out.truncated || reader->truncated();
    if (reader->stated()) add_stated(reader->header(), *reader->stated(), i, recordings);
  }
  for (const auto& [recording, totals] : recordings) {
    out.stated.dropped_requests += totals.dropped_requests;
    out.stated.dropped_tokens += totals.dropped_tokens;
    out.stated.unsampled_requests += totals.unsampled_requests;
  }
  TokenCounter counter(options, out);
  for (const std::filesystem::path& file : files) {
    const auto reader = open_routing_log(file);
    while (reader->next(routes)) counter.add(routes);
  }
  return out;
}

Balance balance_of(std::span<const double> rows) {
  Balance balance;
  const double sum = std::accumulate(rows.begin(), rows.end(), 0.0);
  if (sum <= 0) return balance;
  const auto n = static_cast<double>(rows.size());
  std::vector<double> sorted(rows.begin(), rows.end());
  std::ranges::sort(sorted);
  double ranked = 0;
  double squares = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    ranked += static_cast<double>(i + 1) * sorted[i];
    squares += (sorted[i] - sum / n) * (sorted[i] - sum / n);
    if (sorted[i] <= 0) continue;
    balance.entropy_bits -= sorted[i] / sum * std::log2(sorted[i] / sum);
    balance.used += 1;
  }
  balance.max_over_mean = sorted.back() * n / sum;
  balance.gini = 2 * ranked / (n * sum) - (n + 1) / n;
  balance.variation = std::sqrt(squares / n) / (sum / n);
  balance.busiest = static_cast<int>(std::ranges::max_element(rows) - rows.begin());
  return balance;
}

}  // namespace moeopt
