#include "serve/server_metrics.h"

namespace moeopt::serve {
namespace {

// vLLM's buckets, so that its dashboards fit.
std::vector<double> first_token_bounds() {
  return {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
          1.0,   2.5,   5.0,  7.5,  10,   20,   40,   80,  160,  640, 2560};
}

std::vector<double> inter_token_bounds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
          0.4,   0.5,    0.75,  1.0,  2.5,   5.0,  7.5,   10,  20,   40,  80};
}

std::vector<double> request_bounds() {
  return {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5,  5,   10,
          15,   20,   30,  40,  60,  120, 240, 480, 960, 1920, 7680};
}

std::vector<double> token_bounds() {
  return {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10'000, 20'000, 50'000, 100'000};
}

}  // namespace

void LabelledCounter::add(const std::string& label) {
  const std::lock_guard lock(mutex_);
  values_[label] += 1;
}

std::map<std::string, std::uint64_t> LabelledCounter::values() const {
  const std::lock_guard lock(mutex_);
  return values_;
}

ServerMetrics::ServerMetrics()
    : time_to_first_token_s(first_token_bounds()),
      inter_token_s(inter_token_bounds()),
      request_s(request_bounds()),
      prompt_tokens(token_bounds()),
      output_tokens(token_bounds()) {}

}  // namespace moeopt::serve
