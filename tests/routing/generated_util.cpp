#include "routing/generated_util.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <random>

namespace moeopt {
namespace {

// One layer's shares as they wander, and tokens drawn from them.
class LayerGenerator {
 public:
  LayerGenerator(const GeneratedLog& log, std::uint64_t seed)
      : log_(log), random_(seed), log_share_(static_cast<std::size_t>(log.n_experts)) {
    std::vector<int> rank(log_share_.size());
    std::iota(rank.begin(), rank.end(), 1);
    std::ranges::shuffle(rank, random_);
    for (std::size_t e = 0; e < log_share_.size(); ++e) {
      log_share_[e] = -log.zipf * std::log(static_cast<double>(rank[e])) + 0.3 * normal_(random_);
    }
    for (auto& topic : topics_) {
      topic.resize(log_share_.size());
      for (double& bend : topic) bend = normal_(random_);
    }
  }

  void next_window(LayerCounts& counts, std::vector<double>& rows, bool first_half) {
    for (double& share : log_share_) share += log_.wander * normal_(random_);
    // A window is a few requests; each has one of the topics.
    constexpr int kRequests = 8;
    for (int request = 0; request < kRequests; ++request) {
      const auto& topic = topics_[random_() % topics_.size()];
      std::vector<double> rate(log_share_.size());
      for (std::size_t e = 0; e < rate.size(); ++e) {
        rate[e] = std::exp(log_share_[e] + log_.topics * topic[e]);
      }
      draw(rate, log_.tokens_per_window / kRequests, counts, rows, first_half);
    }
  }

 private:
  // The k smallest of exponential times with the given rates: draws without repetition.
  void draw(const std::vector<double>& rate, int n_tokens, LayerCounts& counts,
            std::vector<double>& rows, bool first_half) {
    const auto k = static_cast<std::size_t>(log_.top_k);
    std::vector<std::pair<float, std::uint16_t>> times(rate.size());
    std::uniform_real_distribution<float> uniform(1e-7f, 1.0f);
    for (int token = 0; token < n_tokens; ++token, ++n_) {
      for (std::size_t e = 0; e < rate.size(); ++e) {
        times[e] = {-std::log(uniform(random_)) / static_cast<float>(rate[e]),
                    static_cast<std::uint16_t>(e)};
      }
      std::ranges::nth_element(times, times.begin() + static_cast<std::ptrdiff_t>(k) - 1);
      for (std::size_t i = 0; i < k; ++i) rows[times[i].second] += 1;
      if (first_half && !counts.together.empty()) add_pairs(times, k, counts, rows.size());
      if (n_ % 16 != 0) continue;
      auto& kept = first_half ? counts.kept_first : counts.kept_second;
      for (std::size_t i = 0; i < k; ++i) kept.push_back(times[i].second);
    }
  }

  static void add_pairs(const std::vector<std::pair<float, std::uint16_t>>& times, std::size_t k,
                        LayerCounts& counts, std::size_t n) {
    for (std::size_t i = 0; i < k; ++i) {
      for (std::size_t j = 0; j < k; ++j) {
        if (i != j) counts.together[times[i].second * n + times[j].second] += 1.0f;
      }
    }
  }

  const GeneratedLog& log_;
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  std::vector<double> log_share_;
  std::array<std::vector<double>, 6> topics_;
  std::uint64_t n_ = 0;
};

}  // namespace

LogStatistics generate_statistics(const GeneratedLog& log) {
  LogStatistics out;
  out.header.model = "generated";
  out.header.n_layers = log.n_layers;
  out.header.n_experts = log.n_experts;
  out.header.top_k = log.top_k;
  out.layers.resize(static_cast<std::size_t>(log.n_layers));
  out.counted.tokens =
      static_cast<std::uint64_t>(log.windows) * static_cast<std::uint64_t>(log.tokens_per_window);
  const auto n = static_cast<std::size_t>(log.n_experts);
  for (std::size_t layer = 0; layer < out.layers.size(); ++layer) {
    out.header.layers.push_back(static_cast<int>(layer));
    LayerCounts& counts = out.layers[layer];
    counts.together.assign(n * n, 0.0f);
    LayerGenerator generator(log, log.seed * 1000 + layer);
    for (int window = 0; window < log.windows; ++window) {
      std::vector<double>& rows = counts.windows.emplace_back(n, 0.0);
      generator.next_window(counts, rows, window * 2 < log.windows);
    }
  }
  return out;
}

}  // namespace moeopt
