// Choosing the next token of one row of logits, on the host: plain functions and the per-slot
// state. The order, as vLLM applies it: the mask of allowed ids, logit bias, bans until min_tokens,
// repetition, frequency and presence penalties; temperature 0 takes the largest here; otherwise
// temperature, softmax, then min_p, top_k and top_p cut the distribution, each renormalised over
// what the one before left. Reported logprobs are of the raw logits, before all of this. Invariant:
// a row's draw depends on its logits, its slot's parameters and its slot's own history alone; ties
// go to the lower id everywhere.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/sampling_params.h"

namespace moeopt {

// A token that may be drawn. `weight`: its probability up to a common factor.
struct Candidate {
  float weight;
  std::int32_t id;
};

// How often each token occurred, [vocab] each; counts stop at 65535.
struct TokenCounts {
  std::span<std::uint16_t> prompt, output;
};

// logit += bias; -inf for ids banned while n_output < min_tokens; then, for tokens seen:
// repetition: logit / r when positive, else logit * r (prompt and output); logit -= frequency *
// count + presence (output).
void apply_penalties(std::span<float> logits, const SamplingParams& params,
                     const TokenCounts& counts, std::int64_t n_output);

// -inf for every id whose bit is not set.
void apply_mask(std::span<float> logits, std::span<const std::uint64_t> allowed);

// Index of the largest, the lowest of equals; -1 when there is none above -inf.
std::int32_t argmax(std::span<const float> logits);

// logits -> candidates that temperature, min_p, top_k and top_p leave, and their number. Best
// first, equals by id, once top_k or top_p has cut something; by id otherwise. `out` holds
// logits.size().
//   min_p: weight >= min_p * largest weight; top_k: the k best; top_p: the shortest run of the best
//   whose weights reach top_p of the sum.
std::size_t filter_candidates(std::span<const float> logits, const SamplingParams& params,
                              std::span<Candidate> out);

// The first candidate whose running sum of weights exceeds uniform * their total.
std::int32_t draw(std::span<const Candidate> candidates, double uniform);

// Whether the row can be sampled from: no NaN, no +inf, not all -inf.
bool is_finite_row(std::span<const float> logits);

// log(sum(exp(logits))), in double.
double log_sum_exp(std::span<const float> logits);

// The out.size() largest logits as logprobs, descending, equals by id. Returns how many there are.
std::size_t top_logprobs(std::span<const float> logits, double log_sum,
                         std::span<TokenLogprob> out);

// All slots' parameters, masks, counts and positions.
class HostSampler {
 public:
  static std::uint64_t count_bytes(int slots, std::int64_t vocab);
  static std::uint64_t work_bytes(std::int64_t vocab);

  // `counts`: count_bytes(), zeroed, aligned to 8; `work`: work_bytes(), one row's candidates.
  HostSampler(int slots, std::int64_t vocab, std::span<std::byte> counts,
              std::span<std::byte> work);

  void bind(int slot, const SamplingParams& params, std::span<const std::int32_t> prompt);
  // The slot has sampled `output` since bind().
  void resume(int slot, std::span<const std::int32_t> output);
  // For the slot's next sample alone.
  void set_mask(int slot, std::span<const std::uint64_t> allowed);

  // Draws from a row, counts the token as the slot's output and remembers it as its last sample.
  // `top` receives the row's best; at most kMaxLogprobs are written.
  SampledToken sample(int slot, std::span<const float> logits, std::span<TokenLogprob> top);

  std::int32_t last_sample(int slot) const { return slots_[static_cast<std::size_t>(slot)].last; }

 private:
  struct Slot {
    SamplingParams params;
    TokenCounts counts;
    std::span<std::uint64_t> mask;  // [(vocab + 63) / 64]
    bool masked = false;
    std::int64_t n_output = 0;
    std::int32_t last = 0;
  };

  std::int32_t choose(const Slot& slot, std::span<const float> logits);

  std::vector<Slot> slots_;
  std::span<float> adjusted_;
  std::span<Candidate> candidates_;
};

}  // namespace moeopt
