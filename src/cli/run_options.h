// The flags of `run` that shape one generation, over the model's own defaults.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/generation_defaults.h"
#include "engine/request.h"

namespace CLI {
class App;
}

namespace moeopt::cli {

struct SamplingFlags {
  std::optional<int> max_tokens;
  std::optional<float> temperature, top_p, min_p;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> top_k, min_tokens, logprobs;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<std::string> logit_bias;  // "ID=BIAS"
  bool ignore_eos = false;
  bool show_special = false;

  void add_to(CLI::App& verb);
  // A request without its prompt. Error(kUsage) for a malformed --logit-bias.
  Request request(const GenerationDefaults& defaults) const;
};

}  // namespace moeopt::cli
