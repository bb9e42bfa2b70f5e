// The sampler: each rule on rows made by hand, each distribution by chi-square with a fixed seed.
#include "backend/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "tensor/tensor.h"

namespace moeopt {
namespace {

using Ids = std::vector<std::int32_t>;
using Floats = std::vector<float>;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A sampler with memory of its own.
struct Sampler {
  Sampler(int slots, std::int64_t vocab)
      : counts(HostSampler::count_bytes(slots, vocab)),
        work(HostSampler::work_bytes(vocab)),
        sampler(slots, vocab, counts.bytes(), work.bytes()) {}
  Buffer counts, work;
  HostSampler sampler;
};

SamplingParams greedy() {
  SamplingParams params;
  params.temperature = 0;
  return params;
}

Ids sample_n(const SamplingParams& params, const Floats& logits, int n, const Ids& prompt = {}) {
  Sampler s(1, static_cast<std::int64_t>(logits.size()));
  s.sampler.bind(0, params, prompt);
  Ids ids;
  for (int i = 0; i < n; ++i) ids.push_back(s.sampler.sample(0, logits, {}).id);
  return ids;
}

// Draws against the probabilities that the rules give: Pearson's chi-square at p = 0.001, and
// nothing outside the support.
void expect_distribution(const SamplingParams& params, const Floats& logits,
                         const std::map<int, double>& wanted) {
  constexpr int kDraws = 20000;
  std::map<int, int> counts;
  for (const std::int32_t id : sample_n(params, logits, kDraws)) ++counts[id];
  const double total =
      std::accumulate(wanted.begin(), wanted.end(), 0.0,
                      [](double sum, const auto& entry) { return sum + entry.second; });
  for (const auto& [id, n] : counts) EXPECT_TRUE(wanted.contains(id)) << id << " drawn " << n;
  double chi_square = 0;
  for (const auto& [id, weight] : wanted) {
    const double expected = kDraws * weight / total;
    ASSERT_GT(expected, 5);
    chi_square += (counts[id] - expected) * (counts[id] - expected) / expected;
  }
  // Wilson and Hilferty's approximation of the quantile.
  const double degrees = static_cast<double>(wanted.size()) - 1;
  const double term = 1 - 2 / (9 * degrees) + 3.09 * std::sqrt(2 / (9 * degrees));
  EXPECT_LT(chi_square, degrees == 0 ? 1e-9 : degrees * term * term * term);
}

const Floats kLogits = {1.0f, 3.0f, -0.5f, 2.5f, 0.0f, 2.0f, 3.0f, -2.0f};

std::map<int, double> softmax_of(double temperature, const Ids& kept) {
  std::map<int, double> weights;
  for (const int id : kept)
    weights[id] = std::exp(kLogits[static_cast<std::size_t>(id)] / temperature);
  return weights;
}

const Ids kAll = {0, 1, 2, 3, 4, 5, 6, 7};

TEST(Sampling, GreedyTiesGoToTheLowerId) {
  EXPECT_EQ(sample_n(greedy(), kLogits, 3), (Ids{1, 1, 1}));
}

TEST(Sampling, TemperatureAlone) {
  for (const float temperature : {0.5f, 1.0f, 3.0f}) {
    SamplingParams params;
    params.temperature = temperature;
    params.seed = 100;
    Ids kept = kAll;
    if (temperature == 0.5f) kept.resize(7);  // the last is too rare to count
    Floats logits = kLogits;
    logits.resize(kept.size());
    expect_distribution(params, logits, softmax_of(temperature, kept));
  }
}

TEST(Sampling, TopK) {
  SamplingParams params;
  params.seed = 1;
  params.top_k = 3;
  expect_distribution(params, kLogits, softmax_of(1, {1, 6, 3}));
  params.top_k = 1;  // the tie at the cut goes to the lower id
  expect_distribution(params, kLogits, softmax_of(1, {1}));
  params.top_k = 100;
  expect_distribution(params, kLogits, softmax_of(1, kAll));
}

TEST(Sampling, TopP) {
  // Probabilities, best first: .326 .326 .198 .120 .044 .016 .010 .002 (ids 1 6 3 5 0 4 2 7).
  SamplingParams params;
  params.seed = 2;
  params.top_p = 0.3f;
  expect_distribution(params, kLogits, softmax_of(1, {1}));
  params.top_p = 0.6f;
  expect_distribution(params, kLogits, softmax_of(1, {1, 6}));
  params.top_p = 0.8f;
  expect_distribution(params, kLogits, softmax_of(1, {1, 6, 3}));
  params.top_p = 1e-6f;
  expect_distribution(params, kLogits, softmax_of(1, {1}));
}

TEST(Sampling, TopPReachedExactlyKeepsNoMore) {
  SamplingParams params;
  params.top_p = 0.5f;
  expect_distribution(params, {0, 0, 0, 0}, {{0, 1}, {1, 1}});
}

TEST(Sampling, MinP) {
  SamplingParams params;
  params.seed = 3;
  params.min_p = 0.3f;  // of the largest: e^-0.5 = .61, e^-1 = .37, e^-2 = .14
  expect_distribution(params, kLogits, softmax_of(1, {1, 6, 3, 5}));
  params.min_p = 1;
  expect_distribution(params, kLogits, softmax_of(1, {1, 6}));
}

TEST(Sampling, FiltersWorkOnEachOthersRest) {
  SamplingParams params;
  params.seed = 4;
  params.top_k = 3;  // leaves .383 .383 .233 of ids 1 6 3
  params.top_p = 0.7f;
  expect_distribution(params, kLogits, softmax_of(1, {1, 6}));
  params.min_p = 0.9f;
  params.top_p = 1;
  expect_distribution(params, kLogits, softmax_of(1, {1, 6}));
  params.min_p = 0.3f;  // min_p keeps four, which hold .97 of the whole: top_p of what is left
  params.top_k = 0;
  params.top_p = 0.7f;  // .336 .336 .204 .124
  expect_distribution(params, kLogits, softmax_of(1, {1, 6, 3}));
}

TEST(Sampling, TopPInALargeVocabularyFindsItsPrefix) {
  Floats logits(5000);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = -0.01f * static_cast<float>((i * 1237) % logits.size());
  }
  std::vector<Candidate> out(logits.size());
  SamplingParams params;
  params.top_p = 0.9f;
  const std::size_t n = filter_candidates(logits, params, out);
  // A geometric series of ratio e^-0.01: 0.9 of it is in its first 231 terms.
  EXPECT_EQ(n, 231u);
  for (std::size_t i = 0; i < n; ++i) {
    EXPECT_EQ((static_cast<std::size_t>(out[i].id) * 1237) % logits.size(), i);
  }
}

TEST(Sampling, RepetitionPenaltyOverPromptAndOutput) {
  Floats logits = {2, -2, 1, 3};
  std::vector<std::uint16_t> prompt = {1, 0, 0, 0}, output = {0, 3, 0, 0};
  SamplingParams params;
  params.repetition_penalty = 2;
  apply_penalties(logits, params, {prompt, output}, 3);
  EXPECT_EQ(logits, (Floats{1, -4, 1, 3}));
}

TEST(Sampling, PresenceAndFrequencyOverTheOutputAlone) {
  Floats logits = {2, 2, 2, 2};
  std::vector<std::uint16_t> prompt = {5, 0, 0, 5}, output = {0, 1, 3, 2};
  SamplingParams params;
  params.presence_penalty = 0.5f;
  params.frequency_penalty = 0.25f;
  apply_penalties(logits, params, {prompt, output}, 6);
  EXPECT_EQ(logits, (Floats{2, 1.25f, 0.75f, 1}));
}

TEST(Sampling, BiasesComeBeforeThePenalties) {
  Floats logits = {1, 1};
  std::vector<std::uint16_t> prompt = {1, 0}, output = {0, 0};
  SamplingParams params;
  params.repetition_penalty = 2;
  params.logit_bias = {{0, 3}, {1, -3}};
  apply_penalties(logits, params, {prompt, output}, 0);
  EXPECT_EQ(logits, (Floats{2, -2}));
}

TEST(Sampling, PenaltiesSteerGreedyOutput) {
  SamplingParams params = greedy();
  params.frequency_penalty = 1.0f;
  // 2.0 1.5 0.6: each time an id is taken its logit falls by one.
  EXPECT_EQ(sample_n(params, {2.0f, 1.5f, 0.6f}, 6), (Ids{0, 1, 0, 2, 1, 0}));
  params.frequency_penalty = 0;
  params.repetition_penalty = 100;
  EXPECT_EQ(sample_n(params, {2.0f, 1.5f, 0.6f}, 4, {1}), (Ids{0, 2, 0, 0}));
}

TEST(Sampling, BannedUntilMinTokens) {
  SamplingParams params = greedy();
  params.min_tokens = 2;
  params.banned_until_min_tokens = {1, 6};
  EXPECT_EQ(sample_n(params, kLogits, 4), (Ids{3, 3, 1, 1}));
  params.temperature = 1;
  params.seed = 8;
  params.min_tokens = 5000;
  for (const std::int32_t id : sample_n(params, kLogits, 5000)) {
    ASSERT_NE(id, 1);
    ASSERT_NE(id, 6);
  }
}

TEST(Sampling, SeedAndPositionDecide) {
  SamplingParams params;
  params.seed = 5;
  const Ids once = sample_n(params, kLogits, 50);
  EXPECT_EQ(sample_n(params, kLogits, 50), once);
  params.seed = 6;
  EXPECT_NE(sample_n(params, kLogits, 50), once);
}

TEST(Sampling, BatchMatesDoNotMatter) {
  SamplingParams params;
  params.seed = 9;
  params.frequency_penalty = 0.2f;
  params.top_p = 0.9f;
  const Ids alone = sample_n(params, kLogits, 40, {3});
  Sampler s(3, 8);
  SamplingParams other;
  other.seed = 9;
  other.repetition_penalty = 1.5f;
  other.logit_bias = {{2, 5}};
  s.sampler.bind(0, other, Ids{1, 2});
  s.sampler.bind(2, greedy(), {});
  s.sampler.bind(1, params, Ids{3});
  Floats others = kLogits;
  std::ranges::reverse(others);
  for (const std::int32_t id : alone) {
    s.sampler.sample(0, others, {});
    EXPECT_EQ(s.sampler.sample(1, kLogits, {}).id, id);
    EXPECT_EQ(s.sampler.last_sample(1), id);
    s.sampler.sample(2, others, {});
    EXPECT_EQ(s.sampler.last_sample(1), id);
  }
}

TEST(Sampling, BindForgetsTheSlotsPast) {
  SamplingParams params;
  params.seed = 10;
  params.frequency_penalty = 2;
  Sampler s(1, 8);
  s.sampler.bind(0, params, Ids{1});
  Ids first, second;
  for (int i = 0; i < 20; ++i) first.push_back(s.sampler.sample(0, kLogits, {}).id);
  s.sampler.bind(0, params, Ids{1});
  for (int i = 0; i < 20; ++i) second.push_back(s.sampler.sample(0, kLogits, {}).id);
  EXPECT_EQ(first, second);
}

TEST(Sampling, ResumedSlotsGoOnAsIfTheyHadNeverStopped) {
  SamplingParams params;
  params.seed = 12;
  params.frequency_penalty = 0.7f;
  params.repetition_penalty = 1.2f;
  params.banned_until_min_tokens = {1};
  params.min_tokens = 15;
  const Ids whole = sample_n(params, kLogits, 30, {3});
  for (const std::size_t cut : {0, 1, 14, 15, 29}) {
    Sampler s(2, 8);
    s.sampler.bind(1, params, Ids{3});
    s.sampler.resume(1, std::span(whole).first(cut));
    EXPECT_EQ(s.sampler.last_sample(1), cut > 0 ? whole[cut - 1] : 0);
    for (std::size_t i = cut; i < whole.size(); ++i) {
      ASSERT_EQ(s.sampler.sample(1, kLogits, {}).id, whole[i]) << cut << " " << i;
    }
  }
}

TEST(Sampling, AMaskIsForItsSlotsNextSampleAlone) {
  const std::vector<std::uint64_t> two_and_five = {std::uint64_t{1} << 2 | std::uint64_t{1} << 5};
  Sampler s(2, 8);
  s.sampler.bind(0, greedy(), {});
  s.sampler.bind(1, greedy(), {});
  s.sampler.set_mask(1, two_and_five);
  EXPECT_EQ(s.sampler.sample(0, kLogits, {}).id, 1);
  EXPECT_EQ(s.sampler.sample(1, kLogits, {}).id, 5);
  EXPECT_EQ(s.sampler.sample(1, kLogits, {}).id, 1);
  s.sampler.set_mask(1, two_and_five);
  s.sampler.bind(1, greedy(), {});
  EXPECT_EQ(s.sampler.sample(1, kLogits, {}).id, 1) << "a new sequence has no mask";

  SamplingParams params;
  params.temperature = 5;
  params.logit_bias = {{0, 100}};
  s.sampler.bind(0, params, {});
  std::set<std::int32_t> drawn;
  for (int i = 0; i < 200; ++i) {
    s.sampler.set_mask(0, two_and_five);
    const SampledToken token = s.sampler.sample(0, kLogits, {});
    EXPECT_TRUE(token.finite);
    drawn.insert(token.id);
  }
  EXPECT_EQ(drawn, (std::set<std::int32_t>{2, 5}));
}

TEST(Sampling, AMaskThatLeavesNothingIsNoToken) {
  Sampler s(1, 70);
  SamplingParams params = greedy();
  params.banned_until_min_tokens = {69};
  params.min_tokens = 1;
  s.sampler.bind(0, params, {});
  const Floats logits(70, 1.0f);
  const std::vector<std::uint64_t> last = {0, std::uint64_t{1} << 5};
  s.sampler.set_mask(0, last);
  EXPECT_FALSE(s.sampler.sample(0, logits, {}).finite);
  s.sampler.set_mask(0, last);
  EXPECT_EQ(s.sampler.sample(0, logits, {}).id, 69) << "the second word is the mask's too";
}

TEST(Sampling, LogprobsAreOfTheRawLogits) {
  SamplingParams params = greedy();
  params.n_logprobs = 3;
  params.logit_bias = {{7, 100}};
  Sampler s(1, 8);
  s.sampler.bind(0, params, {});
  std::vector<TokenLogprob> top(kMaxLogprobs);
  const SampledToken token = s.sampler.sample(0, kLogits, top);
  EXPECT_EQ(token.id, 7);
  double sum = 0;
  for (const float logit : kLogits) sum += std::exp(logit);
  EXPECT_NEAR(token.logprob, -2 - std::log(sum), 1e-6);
  ASSERT_EQ(token.top.size(), 3u);
  EXPECT_EQ(token.top[0].id, 1);
  EXPECT_EQ(token.top[1].id, 6);  // equal: the lower id first
  EXPECT_EQ(token.top[2].id, 3);
  EXPECT_NEAR(token.top[2].logprob, 2.5 - std::log(sum), 1e-6);
}

TEST(Sampling, TopLogprobsOfAnyOrder) {
  Floats logits(200);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>((i * 73) % 200);
  std::vector<TokenLogprob> top(20);
  ASSERT_EQ(top_logprobs(logits, 0, top), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(top[static_cast<std::size_t>(i)].logprob, 199 - i);
  EXPECT_EQ(top_logprobs({logits.data(), 5}, 0, top), 5u);
}

TEST(Sampling, RowsWithoutASensibleAnswer) {
  for (const Floats& row : {Floats{0, kNan, 1}, Floats{kInf, 0, 1}, Floats{-kInf, -kInf, -kInf}}) {
    for (const float temperature : {0.0f, 1.0f}) {
      SamplingParams params;
      params.temperature = temperature;
      params.n_logprobs = 2;
      Sampler s(1, 3);
      s.sampler.bind(0, params, {});
      std::vector<TokenLogprob> top(kMaxLogprobs);
      const SampledToken token = s.sampler.sample(0, row, top);
      EXPECT_FALSE(token.finite);
      EXPECT_EQ(token.id, 0);
      EXPECT_TRUE(token.top.empty());
    }
  }
  SamplingParams all_banned;
  all_banned.min_tokens = 1;
  all_banned.banned_until_min_tokens = {0, 1, 2};
  Sampler s(1, 3);
  s.sampler.bind(0, all_banned, {});
  EXPECT_FALSE(s.sampler.sample(0, Floats{1, 2, 3}, {}).finite);
}

TEST(Sampling, MinusInfinityIsNeverDrawn) {
  SamplingParams params;
  params.temperature = 100;
  for (const std::int32_t id : sample_n(params, {-kInf, 0, -kInf, 0}, 1000)) {
    ASSERT_TRUE(id == 1 || id == 3);
  }
}

TEST(Sampling, ExtremesOfTheParametersStayInRange) {
  SamplingParams params;
  params.repetition_penalty = 0.01f;
  params.temperature = 1e-30f;
  const Ids ids = sample_n(params, {3e38f, 1, -3e38f}, 5, {0, 1, 2});
  EXPECT_EQ(ids, (Ids{0, 0, 0, 0, 0}));
}

TEST(Sampling, TheLastCandidateCatchesRounding) {
  const std::vector<Candidate> candidates = {{0.5f, 4}, {0.25f, 9}};
  EXPECT_EQ(draw(candidates, 0.0), 4);
  EXPECT_EQ(draw(candidates, 0.66), 4);
  EXPECT_EQ(draw(candidates, 0.67), 9);
  EXPECT_EQ(draw(candidates, std::nextafter(1.0, 0.0)), 9);
}

}  // namespace
}  // namespace moeopt
