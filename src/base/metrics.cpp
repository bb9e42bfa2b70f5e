#include "base/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/check.h"

namespace moeopt {
namespace {

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

Histogram::Histogram(std::vector<double> upper_bounds)
    : upper_bounds_(std::move(upper_bounds)),
      counts_(std::make_unique<std::atomic<std::uint64_t>[]>(upper_bounds_.size() + 1)) {
  MOEOPT_CHECK(std::ranges::is_sorted(upper_bounds_));
}

void Histogram::observe(double value) {
  const auto at = std::ranges::lower_bound(upper_bounds_, value) - upper_bounds_.begin();
  counts_[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

std::vector<std::uint64_t> Histogram::counts() const {
  std::vector<std::uint64_t> counts(upper_bounds_.size() + 1);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    counts[i] = counts_[i].load(std::memory_order_relaxed);
  }
  return counts;
}

void PrometheusText::family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void PrometheusText::line(std::string_view suffix, double value, const MetricLabels& labels,
                          std::string_view bound) {
  text_ += name_;
  text_ += suffix;
  if (!labels.empty() || !bound.empty()) {
    std::string inside;
    for (const auto& [name, label] : labels) {
      inside += fmt::format("{}{}=\"{}\"", inside.empty() ? "" : ",", name, escaped(label));
    }
    if (!bound.empty()) inside += fmt::format("{}le=\"{}\"", inside.empty() ? "" : ",", bound);
    fmt::format_to(std::back_inserter(text_), "{{{}}}", inside);
  }
  fmt::format_to(std::back_inserter(text_), " {}\n", number(value));
}

void PrometheusText::sample(double value, const MetricLabels& labels) {
  line("", value, labels, "");
}

void PrometheusText::histogram(std::span<const double> upper_bounds,
                               std::span<const std::uint64_t> counts, double sum,
                               const MetricLabels& labels) {
  MOEOPT_CHECK(counts.size() == upper_bounds.size() + 1);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    total += counts[i];
    const std::string bound = i < upper_bounds.size() ? number(upper_bounds[i]) : "+Inf";
    line("_bucket", static_cast<double>(total), labels, bound);
  }
  line("_sum", sum, labels, "");
  line("_count", static_cast<double>(total), labels, "");
}

void PrometheusText::histogram(const Histogram& histogram, const MetricLabels& labels) {
  this->histogram(histogram.upper_bounds(), histogram.counts(), histogram.sum(), labels);
}

void PrometheusText::one(std::string_view name, std::string_view type, std::string_view help,
                         double value, const MetricLabels& labels) {
  family(name, type, help);
  sample(value, labels);
}

}  // namespace moeopt
