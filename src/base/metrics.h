// Counters and histograms that any thread may add to, and Prometheus' text format (0.0.4) for them.
// Invariant: adding never blocks; a histogram's count is never below its largest bucket's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moeopt {

class Histogram {
 public:
  // Upper bounds, ascending; a last bucket without bound is added.
  explicit Histogram(std::vector<double> upper_bounds);

  void observe(double value);

  std::span<const double> upper_bounds() const { return upper_bounds_; }
  // Not cumulative; one more than there are bounds.
  std::vector<std::uint64_t> counts() const;
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::vector<double> upper_bounds_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> counts_;
  std::atomic<double> sum_{0};
};

using MetricLabels = std::vector<std::pair<std::string_view, std::string>>;

// Writes metrics one after the other; all samples of one name come together.
class PrometheusText {
 public:
  // "# HELP" and "# TYPE" of what follows; `type` is counter, gauge or histogram.
  void family(std::string_view name, std::string_view type, std::string_view help);
  void sample(double value, const MetricLabels& labels = {});
  // The buckets of the family, cumulative, its sum and count.
  void histogram(std::span<const double> upper_bounds, std::span<const std::uint64_t> counts,
                 double sum, const MetricLabels& labels = {});
  void histogram(const Histogram& histogram, const MetricLabels& labels = {});

  // A family of one sample.
  void one(std::string_view name, std::string_view type, std::string_view help, double value,
           const MetricLabels& labels = {});

  const std::string& text() const { return text_; }

 private:
  void line(std::string_view suffix, double value, const MetricLabels& labels,
            std::string_view bound);

  std::string text_;
  std::string name_;
};

}  // namespace moeopt
