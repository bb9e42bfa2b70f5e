// What a request asks of the sampler. Plain data, checked once by validate().
#pragma once

#include <cstdint>
#include <vector>

namespace moeopt {

inline constexpr int kMaxLogprobs = 20;

struct LogitBias {
  std::int32_t token;
  float bias;
};

struct SamplingParams {
  float temperature = 1.0f;  // 0: greedy, ties to the lower id
  int top_k = 0;             // 0: all
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;  // over prompt and output (CTRL, arXiv 1909.05858)
  float presence_penalty = 0.0f;    // over the output alone, as OpenAI's
  float frequency_penalty = 0.0f;
  std::vector<LogitBias> logit_bias;
  std::vector<std::int32_t> banned_until_min_tokens;  // ids kept out while fewer than min_tokens
  int min_tokens = 0;
  std::uint64_t seed = 0;  // draws depend on (seed, position in the output) alone
  int n_logprobs = -1;     // -1: none; n: the sampled token's and the n best
};

// Throws Error(kUsage) naming the field: NaN, temperature outside [0, 100], top_p outside (0, 1],
// min_p outside [0, 1], repetition penalty outside [0.01, 100], presence and frequency penalties
// outside [-2, 2] and biases outside [-100, 100] (OpenAI's ranges), ids outside [0, vocab), more
// than kMaxLogprobs logprobs.
void validate(const SamplingParams& params, std::int64_t vocab);

}  // namespace moeopt
