// Figures of a routing log: rows per layer and expert, in windows of the log's own order, and what
// they say. One or two passes over the files; memory does not grow with the log.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "routing/log_reader.h"
#include "routing/routing_log.h"

namespace moeopt {

struct StatisticsOptions {
  int windows = 1;                          // equal shares of the log's tokens, in order
  std::size_t kept_tokens = 0;              // token rows kept per layer and half, evenly spread
  bool together = false;                    // count experts chosen together, first half
  RoutePhase phase = RoutePhase::kUnknown;  // kUnknown: both
};

struct LayerCounts {
  std::vector<std::vector<double>> windows;  // [windows][n_experts]
  std::vector<float> together;               // [n_experts, n_experts], symmetric, diagonal 0
  std::vector<std::uint16_t> kept_first, kept_second;  // [tokens][top_k], of the log's two halves

  std::vector<double> total() const;
};

struct LogStatistics {
  RoutingHeader header;
  std::vector<LayerCounts> layers;  // as header.layers
  RoutingTotals counted;            // requests, tokens (without replayed), replayed, cached
  RoutingTotals stated;             // what the logs say was dropped or not sampled
  std::uint64_t records = 0;
  std::uint64_t decode_tokens = 0, prefill_tokens = 0;
  bool truncated = false;
};

// Several files are parts of one log, or logs of the same model. Replayed tokens are counted and
// otherwise left out. Errors as open_routing_log; Error(kInvalidData) when the files are of
// different models.
LogStatistics read_statistics(std::span<const std::filesystem::path> files,
                              const StatisticsOptions& options);

// Of one layer's rows per expert. All are 0 when there are no rows.
struct Balance {
  double max_over_mean = 0;
  double gini = 0;          // 0: even, 1 - 1/n: one expert has all
  double entropy_bits = 0;  // of log2(n)
  double variation = 0;     // standard deviation over mean
  int used = 0;             // experts with rows
  int busiest = 0;
};
Balance balance_of(std::span<const double> rows);

}  // namespace moeopt
