// A run as it is kept: what was asked, of whom, on what, and every figure with its samples. The
// JSON's fields are in docs/bench.md.
// Invariant: read_result(result_json(r)) has the same figures as r.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "bench/measurement.h"
#include "bench/record.h"
#include "bench/server_info.h"

namespace moeopt::bench {

inline constexpr std::string_view kResultSchema = "moeopt-bench/1";

struct ResultParts {
  std::string tool;     // this program's version
  OrderedJson machine;  // of the client: cpu, threads, memory
  const MeasurementPlan* plan;
  const Measurement* measured;
};

// What may make the figures mean less than they seem to: failures, a busy client, a server that
// counted otherwise. One sentence each.
std::vector<std::string> warnings_about(const Measurement& measured);

OrderedJson result_json(const ResultParts& parts);

// The part of a kept result that a comparison needs.
struct KeptResult {
  std::string name;  // of its file
  OrderedJson machine, workload, version, health;
  std::string model, host;
  std::vector<ServerOptimisation> optimisations;
  LoadRun run;
};

// Error(kInvalidData) names the field.
KeptResult read_result(const OrderedJson& json, std::string_view name);
KeptResult read_result_file(const std::filesystem::path& file);

}  // namespace moeopt::bench
