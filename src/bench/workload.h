// What is asked of the server, and when.
// Invariant: a WorkloadSpec, a PromptSource and a model name make the same requests every time, to
// the byte; Workload::digest tells two workloads apart.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "bench/length_distribution.h"

namespace moeopt::bench {

enum class Arrival {
  kBatch,        // `level` requests at once, the next when all of them have ended
  kConcurrency,  // `level` requests at every moment
  kRate,         // Poisson: `level` a second on average, however long the answers take
};
std::string_view arrival_name(Arrival arrival);

struct WorkloadSpec {
  Arrival arrival = Arrival::kConcurrency;
  double level = 8;
  int requests = 64;
  int warmup = 1;  // requests before the run, one after the other, that count nowhere
  LengthDistribution prompt_tokens = LengthDistribution::always(128);
  LengthDistribution output_tokens = LengthDistribution::always(64);
  int shared_prefix_tokens = 0;  // the first tokens of every prompt are the same
  std::filesystem::path dataset;
  std::uint64_t seed = 1;
  double temperature = 0;
  bool ignore_eos = true;  // makes the answers as long as asked, with servers that know the field
};

// Where the prompts' tokens come from: ids that are known to be good, every id below a number, or
// words of text for a server that says neither.
struct PromptSource {
  std::vector<std::int32_t> ids;
  int vocab_size = 0;
  std::string description;
};

// Plain words, to make ids of by /tokenize and text prompts without it.
std::string word_text();

struct PlannedRequest {
  std::int64_t due_us = 0;  // kRate: when it is sent
  std::string path;         // "/v1/completions"
  std::string body;
  int output_tokens = 0;  // asked for
};

struct Workload {
  std::vector<PlannedRequest> warmup, requests;
  std::string digest;  // of the requests: what is asked and when
};

// Error(kUsage), Error(kDoesNotFit) for more than 1 GiB of bodies, and what reading a dataset can
// throw: Error(kNotFound), Error(kInvalidData) with file and line.
Workload make_workload(const WorkloadSpec& spec, const PromptSource& source,
                       std::string_view model);

OrderedJson workload_json(const WorkloadSpec& spec, const PromptSource& source,
                          const Workload& workload);
// One line: "64 requests, 8 at every moment; prompts of 128 tokens, answers of 64".
std::string workload_text(const WorkloadSpec& spec);

}  // namespace moeopt::bench
