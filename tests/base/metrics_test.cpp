#include "base/metrics.h"

#include <gtest/gtest.h>

#include <thread>

namespace moeopt {
namespace {

TEST(Metrics, HistogramsCountIntoTheirBuckets) {
  Histogram histogram({1, 2, 5});
  for (const double value : {0.5, 1.0, 1.5, 5.0, 6.0, 100.0}) histogram.observe(value);
  EXPECT_EQ(histogram.counts(), (std::vector<std::uint64_t>{2, 1, 1, 2}));
  EXPECT_DOUBLE_EQ(histogram.sum(), 114);
}

TEST(Metrics, ThreadsLoseNothing) {
  Histogram histogram({1});
  const auto add = [&histogram] {
    for (int i = 0; i < 10'000; ++i) histogram.observe(1);
  };
  std::thread other(add);
  add();
  other.join();
  EXPECT_EQ(histogram.counts()[0], 20'000u);
  EXPECT_DOUBLE_EQ(histogram.sum(), 20'000);
}

TEST(Metrics, TextIsPrometheus) {
  PrometheusText out;
  out.one("a_total", "counter", "Help.", 3, {{"name", "say \"hi\"\\\n"}});
  Histogram histogram({0.5, 1});
  histogram.observe(0.2);
  histogram.observe(3);
  out.family("h", "histogram", "More.");
  out.histogram(histogram, {{"m", "x"}});
  EXPECT_EQ(out.text(),
            "# HELP a_total Help.\n# TYPE a_total counter\n"
            "a_total{name=\"say \\\"hi\\\"\\\\\\n\"} 3\n"
            "# HELP h More.\n# TYPE h histogram\n"
            "h_bucket{m=\"x\",le=\"0.5\"} 1\nh_bucket{m=\"x\",le=\"1\"} 1\n"
            "h_bucket{m=\"x\",le=\"+Inf\"} 2\nh_sum{m=\"x\"} 3.2\nh_count{m=\"x\"} 2\n");
}

}  // namespace
}  // namespace moeopt
