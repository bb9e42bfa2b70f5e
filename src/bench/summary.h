// The figures of a run, from its records. docs/bench.md defines each of them for users.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "bench/record.h"
#include "bench/statistics.h"

namespace moeopt::bench {

// A request meets it when it was answered, its first text came within ttft_ms, and its tokens after
// the first took token_ms or less on average. What is not set bounds nothing.
struct Slo {
  std::optional<double> ttft_ms, token_ms;
  bool is_stated() const { return ttft_ms || token_ms; }
  bool is_met_by(const RequestRecord& record) const;
};

struct ErrorCount {
  int count = 0;
  std::string example;  // the message of the first
};

struct Summary {
  int requests = 0, answered = 0;
  std::map<std::string, ErrorCount> errors;  // by kind
  double duration_s = 0;
  // Of the answered requests alone.
  std::int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  double output_tokens_per_s = 0, total_tokens_per_s = 0, requests_per_s = 0;
  Spread ttft_ms;             // one sample a request
  Spread inter_token_ms;      // one sample a gap, all requests together
  Spread token_ms;            // one sample a request: its mean time of a token after the first
  Spread e2e_ms;              // one sample a request
  int counted_by_server = 0;  // requests whose tokens are the server's count, not events
  // With a stated SLO.
  int good = 0;
  double goodput_per_s = 0;
};

Summary summarise(const LoadRun& run, const Slo& slo);

OrderedJson spread_json(const Spread& spread);
OrderedJson summary_json(const Summary& summary, const Slo& slo);

// The table that a person reads.
std::string summary_text(const Summary& summary, const Slo& slo);

}  // namespace moeopt::bench
