#include "backend/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/philox.h"
#include "base/check.h"

namespace moeopt {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

void count(std::span<std::uint16_t> counts, std::int32_t id) {
  std::uint16_t& n = counts[static_cast<std::size_t>(id)];
  if (n < std::numeric_limits<std::uint16_t>::max()) ++n;
}

bool has_penalties(const SamplingParams& params, std::int64_t n_output) {
  return params.repetition_penalty != 1.0f || params.frequency_penalty != 0.0f ||
         params.presence_penalty != 0.0f || !params.logit_bias.empty() ||
         (n_output < params.min_tokens && !params.banned_until_min_tokens.empty());
}

bool is_better(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

// Length of the shortest prefix of the descending order whose weights reach `wanted`. Sorts no more
// of the candidates than that needs, in growing steps.
std::size_t sort_until(std::span<Candidate> candidates, double wanted) {
  double sum = 0;
  std::size_t sorted = 0;
  for (std::size_t step = 64; sorted < candidates.size(); step *= 4) {
    const std::size_t next = std::min(candidates.size(), sorted + step);
    std::partial_sort(candidates.begin() + static_cast<std::ptrdiff_t>(sorted),
                      candidates.begin() + static_cast<std::ptrdiff_t>(next), candidates.end(),
                      is_better);
    for (; sorted < next; ++sorted) {
      sum += candidates[sorted].weight;
      if (sum >= wanted) return sorted + 1;
    }
  }
  return candidates.size();
}

std::uint64_t mask_words(std::uint64_t vocab) {
  return (vocab + 63) / 64;
}

double total_weight(std::span<const Candidate> candidates) {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += candidate.weight;
  return sum;
}

}  // namespace

void apply_penalties(std::span<float> logits, const SamplingParams& params,
                     const TokenCounts& counts, std::int64_t n_output) {
  for (const LogitBias& entry : params.logit_bias) {
    logits[static_cast<std::size_t>(entry.token)] += entry.bias;
  }
  if (n_output < params.min_tokens) {
    for (const std::int32_t id : params.banned_until_min_tokens) {
      logits[static_cast<std::size_t>(id)] = kLowest;
    }
  }
  const float repetition = params.repetition_penalty;
  if (repetition == 1.0f && params.frequency_penalty == 0.0f && params.presence_penalty == 0.0f) {
    return;
  }
  for (std::size_t id = 0; id < logits.size(); ++id) {
    const bool in_output = counts.output[id] > 0;
    if (!in_output && counts.prompt[id] == 0) continue;
    float& logit = logits[id];
    logit = logit > 0 ? logit / repetition : logit * repetition;
    if (in_output) {
      logit -= params.frequency_penalty * counts.output[id] + params.presence_penalty;
    }
  }
}

void apply_mask(std::span<float> logits, std::span<const std::uint64_t> allowed) {
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if ((allowed[id / 64] >> (id % 64) & 1) == 0) logits[id] = kLowest;
  }
}

std::int32_t argmax(std::span<const float> logits) {
  std::int32_t best = -1;
  float largest = kLowest;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] > largest) {
      largest = logits[id];
      best = static_cast<std::int32_t>(id);
    }
  }
  return best;
}

std::size_t filter_candidates(std::span<const float> logits, const SamplingParams& params,
                              std::span<Candidate> out) {
  const float largest = *std::ranges::max_element(logits);
  std::size_t n = 0;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    const float weight = std::exp((logits[id] - largest) / params.temperature);
    if (weight > 0 && weight >= params.min_p) out[n++] = {weight, static_cast<std::int32_t>(id)};
  }
  if (n == 0) {  // penalties made a logit infinite
    out[0] = {1.0f, std::max(argmax(logits), 0)};
    return 1;
  }
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < n) {
    const std::span<Candidate> kept = out.first(n);
    std::partial_sort(kept.begin(), kept.begin() + params.top_k, kept.end(), is_better);
    n = static_cast<std::size_t>(params.top_k);
  }
  if (params.top_p < 1.0f) {
    n = sort_until(out.first(n), static_cast<double>(params.top_p) * total_weight(out.first(n)));
  }
  return n;
}

std::int32_t draw(std::span<const Candidate> candidates, double uniform) {
  MOEOPT_CHECK(!candidates.empty());
  const double target = uniform * total_weight(candidates);
  double sum = 0;
  for (const Candidate& candidate : candidates) {
    sum += candidate.weight;
    if (sum > target) return candidate.id;
  }
  return candidates.back().id;
}

bool is_finite_row(std::span<const float> logits) {
  bool any = false;
  for (const float logit : logits) {
    if (std::isnan(logit) || logit == std::numeric_limits<float>::infinity()) return false;
    any = any || logit > kLowest;
  }
  return any;
}

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

std::size_t top_logprobs(std::span<const float> logits, double log_sum,
                         std::span<TokenLogprob> out) {
  std::size_t n = 0;
  if (out.empty()) return 0;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    const float logit = logits[id];
    if (n == out.size() && logit <= out[n - 1].logprob) continue;
    std::size_t place = n < out.size() ? n++ : n - 1;
    for (; place > 0 && logit > out[place - 1].logprob; --place) out[place] = out[place - 1];
    out[place] = {static_cast<std::int32_t>(id), logit};
  }
  for (TokenLogprob& entry : out.first(n)) {
    entry.logprob = static_cast<float>(entry.logprob - log_sum);
  }
  return n;
}

std::uint64_t HostSampler::count_bytes(int slots, std::int64_t vocab) {
  const auto n = static_cast<std::uint64_t>(vocab);
  return static_cast<std::uint64_t>(slots) *
         (mask_words(n) * sizeof(std::uint64_t) + n * 2 * sizeof(std::uint16_t));
}

std::uint64_t HostSampler::work_bytes(std::int64_t vocab) {
  return static_cast<std::uint64_t>(vocab) * (sizeof(float) + sizeof(Candidate));
}

HostSampler::HostSampler(int slots, std::int64_t vocab, std::span<std::byte> counts,
                         std::span<std::byte> work)
    : slots_(static_cast<std::size_t>(slots)) {
  MOEOPT_CHECK(counts.size() >= count_bytes(slots, vocab));
  MOEOPT_CHECK(work.size() >= work_bytes(vocab));
  const auto n = static_cast<std::size_t>(vocab);
  auto* words = reinterpret_cast<std::uint64_t*>(counts.data());
  auto* next = reinterpret_cast<std::uint16_t*>(words + slots_.size() * mask_words(n));
  for (Slot& slot : slots_) {
    slot.mask = {words, mask_words(n)};
    words += mask_words(n);
    slot.counts = {{next, n}, {next + n, n}};
    next += 2 * n;
  }
  candidates_ = {reinterpret_cast<Candidate*>(work.data()), n};
  adjusted_ = {reinterpret_cast<float*>(work.data() + n * sizeof(Candidate)), n};
}

void HostSampler::bind(int slot, const SamplingParams& params,
                       std::span<const std::int32_t> prompt) {
  Slot& state = slots_[static_cast<std::size_t>(slot)];
  state.params = params;
  state.n_output = 0;
  state.last = 0;
  state.masked = false;
  std::ranges::fill(state.counts.prompt, std::uint16_t{0});
  std::ranges::fill(state.counts.output, std::uint16_t{0});
  for (const std::int32_t id : prompt) count(state.counts.prompt, id);
}

void HostSampler::resume(int slot, std::span<const std::int32_t> output) {
  Slot& state = slots_[static_cast<std::size_t>(slot)];
  for (const std::int32_t id : output) count(state.counts.output, id);
  state.n_output = static_cast<std::int64_t>(output.size());
  if (!output.empty()) state.last = output.back();
}

void HostSampler::set_mask(int slot, std::span<const std::uint64_t> allowed) {
  Slot& state = slots_[static_cast<std::size_t>(slot)];
  MOEOPT_CHECK(allowed.size() == state.mask.size());
  std::ranges::copy(allowed, state.mask.begin());
  state.masked = true;
}

std::int32_t HostSampler::choose(const Slot& slot, std::span<const float> logits) {
  if (slot.masked || has_penalties(slot.params, slot.n_output)) {
    std::ranges::copy(logits, adjusted_.begin());
    if (slot.masked) apply_mask(adjusted_, slot.mask);
    apply_penalties(adjusted_, slot.params, slot.counts, slot.n_output);
    logits = adjusted_;
  }
  const std::int32_t best = argmax(logits);
  if (best < 0 || slot.params.temperature == 0.0f) return best;
  const std::size_t n = filter_candidates(logits, slot.params, candidates_);
  return draw(candidates_.first(n),
              uniform_draw(slot.params.seed, static_cast<std::uint64_t>(slot.n_output)));
}

SampledToken HostSampler::sample(int slot, std::span<const float> logits,
                                 std::span<TokenLogprob> top) {
  Slot& state = slots_[static_cast<std::size_t>(slot)];
  SampledToken token{slot, 0, 0.0f, {}, false};
  if (is_finite_row(logits)) {
    const std::int32_t id = choose(state, logits);
    token.finite = id >= 0;
    token.id = std::max(id, 0);
  }
  state.masked = false;
  if (token.finite && state.params.n_logprobs >= 0) {
    const double log_sum = log_sum_exp(logits);
    token.logprob = static_cast<float>(logits[static_cast<std::size_t>(token.id)] - log_sum);
    const std::size_t wanted =
        std::min(top.size(), static_cast<std::size_t>(state.params.n_logprobs));
    token.top = top.first(top_logprobs(logits, log_sum, top.first(wanted)));
  }
  if (token.finite) count(state.counts.output, token.id);
  state.n_output += 1;
  state.last = token.id;
  return token;
}

}  // namespace moeopt
