// Two kept results side by side: the ratio of each figure with a confidence interval, or why they
// cannot be compared.
// Invariant: no ratio is made of results that differ in machine, model or workload.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/result.h"
#include "bench/statistics.h"

namespace moeopt::bench {

struct ComparedFigure {
  std::string name;
  bool more_is_better = false;
  double a = 0, b = 0;
  double ratio = 0;   // b / a
  Interval interval;  // of the ratio, 95%
};

struct Comparison {
  std::vector<std::string> obstacles;    // why not; then there are no figures
  std::vector<std::string> differences;  // of the servers: versions, optimisation states
  std::vector<std::string> cautions;     // failures, interruptions
  std::vector<ComparedFigure> figures;
};

// The interval is a percentile bootstrap over requests: each of `resamples` draws as many answered
// requests of each result as it has, with replacement, and makes the figure anew. A throughput's
// time is scaled by the drawn requests' share of all the time that requests took. It says how far
// the requests of these two runs pin the ratio down, not how much a repeated run would differ.
Comparison compare_results(const KeptResult& a, const KeptResult& b, int resamples = 1000);

std::string comparison_text(const Comparison& comparison, const KeptResult& a, const KeptResult& b);
OrderedJson comparison_json(const Comparison& comparison);

}  // namespace moeopt::bench
