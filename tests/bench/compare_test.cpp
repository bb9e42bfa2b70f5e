#include "bench/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "bench/fake_server_util.h"
#include "bench/random.h"

namespace moeopt::bench {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A result of `n` requests, four at a time, with times around those of a real server, `scale` times
// as long.
KeptResult result_of(double scale, int n = 60, std::uint64_t seed = 1) {
  KeptResult result;
  result.name = "r.json";
  result.machine = {{"cpu", "x"}, {"threads", 2}};
  result.workload = {{"arrival", "concurrency"}, {"level", 4.0}, {"digest", "00"}};
  result.model = "m";
  result.host = "this machine";
  Random random(seed);
  double busy_us = 0;
  for (int i = 0; i < n; ++i) {
    RequestRecord record;
    record.start_us = 1000;
    record.sent_us = 1000;
    record.first_text_us = 1000 + std::llround(scale * 1000 * (20 + 10 * random.uniform()));
    record.last_text_us = record.first_text_us;
    record.has_usage = true;
    record.output_tokens = 9;
    record.prompt_tokens = 16;
    for (int gap = 0; gap < 8; ++gap) {
      record.gaps_us.push_back(
          static_cast<std::uint32_t>(scale * 1000 * (4 + 4 * random.uniform())));
      record.last_text_us += record.gaps_us.back();
    }
    record.text_events = 9;
    record.end_us = record.last_text_us;
    busy_us += static_cast<double>(record.end_us - record.start_us);
    result.run.records.push_back(record);
  }
  result.run.duration_s = busy_us * 1e-6 / 4;
  return result;
}

const ComparedFigure& figure(const Comparison& comparison, std::string_view name) {
  for (const ComparedFigure& compared : comparison.figures) {
    if (compared.name == name) return compared;
  }
  throw std::runtime_error("no figure " + std::string(name));
}

TEST(Compare, AResultWithItselfShowsNoDifference) {
  const KeptResult a = result_of(1);
  const Comparison comparison = compare_results(a, a);
  EXPECT_THAT(comparison.obstacles, IsEmpty());
  ASSERT_EQ(comparison.figures.size(), 14u);
  for (const ComparedFigure& compared : comparison.figures) {
    EXPECT_DOUBLE_EQ(compared.ratio, 1) << compared.name;
    EXPECT_TRUE(compared.interval.contains(1)) << compared.name;
  }
  const std::string text = comparison_text(comparison, a, a);
  EXPECT_THAT(text, HasSubstr("no difference shown"));
  EXPECT_THAT(text, testing::Not(HasSubstr("B better")));
}

TEST(Compare, FindsAFactorAndItsInterval) {
  const KeptResult a = result_of(1), b = result_of(1.5, 60, 2);
  const Comparison comparison = compare_results(a, b);
  for (const char* name :
       {"first token ms, p50", "between tokens ms, p50", "between tokens ms, p99",
        "a later token ms, p90", "end to end ms, p50"}) {
    const ComparedFigure& compared = figure(comparison, name);
    EXPECT_NEAR(compared.ratio, 1.5, 0.15) << name;
    EXPECT_TRUE(compared.interval.contains(compared.ratio)) << name;
    EXPECT_FALSE(compared.interval.contains(1)) << name;
    EXPECT_FALSE(compared.more_is_better);
  }
  const ComparedFigure& speed = figure(comparison, "output tokens/s");
  EXPECT_NEAR(speed.ratio, 1 / 1.5, 0.05);
  EXPECT_LT(speed.interval.high, 0.8);
  EXPECT_GT(speed.interval.low, 0.55);
  EXPECT_THAT(comparison_text(comparison, a, b), HasSubstr("B worse"));
  EXPECT_THAT(comparison_text(compare_results(b, a), b, a), HasSubstr("B better"));
}

TEST(Compare, IntervalsShrinkWithMoreRequests) {
  const auto width = [](int n) {
    const Interval interval =
        figure(compare_results(result_of(1, n, 3), result_of(1, n, 4)), "first token ms, p50")
            .interval;
    return interval.high - interval.low;
  };
  EXPECT_LT(width(640), width(10) * 0.5);
}

TEST(Compare, RefusesWhatIsNotTheSameExperiment) {
  const auto obstacles = [](const std::function<void(KeptResult&)>& change) {
    const KeptResult a = result_of(1);
    KeptResult b = a;
    change(b);
    const Comparison comparison = compare_results(a, b);
    EXPECT_EQ(comparison.figures.empty(), !comparison.obstacles.empty());
    return comparison.obstacles;
  };
  EXPECT_THAT(obstacles([](KeptResult&) {}), IsEmpty());
  EXPECT_THAT(obstacles([](KeptResult& r) { r.machine["cpu"] = "y"; }),
              ElementsAre(HasSubstr("machine: cpu is \"x\" in A, \"y\" in B")));
  EXPECT_THAT(obstacles([](KeptResult& r) { r.host = "10.0.0.1:8000"; }),
              ElementsAre(HasSubstr("server: on this machine in A")));
  EXPECT_THAT(obstacles([](KeptResult& r) { r.model = "n"; }),
              ElementsAre(HasSubstr("model: m in A, n in B")));
  EXPECT_THAT(obstacles([](KeptResult& r) { r.workload["digest"] = "01"; }),
              ElementsAre(HasSubstr("workload: digest")));
  EXPECT_THAT(obstacles([](KeptResult& r) {
                r.health = {{"architecture", "Mixtral"}};
              }),
              ElementsAre(HasSubstr("architecture")));
  EXPECT_THAT(obstacles([](KeptResult& r) {
                for (RequestRecord& record : r.run.records) record.error = "timeout";
              }),
              ElementsAre(HasSubstr("no request was answered")));
  KeptResult b = result_of(1);
  b.model = "n";
  const std::string text = comparison_text(compare_results(result_of(1), b), result_of(1), b);
  EXPECT_THAT(text, HasSubstr("Not comparable"));
  EXPECT_THAT(text, testing::Not(HasSubstr("95%")));
}

TEST(Compare, SaysHowTheServersDiffer) {
  KeptResult a = result_of(1), b = a;
  a.version = {{"version", "1"}};
  b.version = {{"version", "2"}};
  a.optimisations = {{"x", "prefer", "applied", "", 4, 10}, {"y", "off", "off", "", 0, 0}};
  b.optimisations = {{"x", "off", "off", "", 0, 0}, {"y", "off", "off", "", 0, 0}};
  b.run.records[3].error = "http 429";
  const Comparison comparison = compare_results(a, b);
  EXPECT_THAT(comparison.obstacles, IsEmpty());
  EXPECT_THAT(comparison.differences,
              ElementsAre(HasSubstr("version"), "x: applied in A, off in B"));
  EXPECT_THAT(comparison.cautions, ElementsAre(HasSubstr("1 of 60 requests failed")));
}

class KeptResults : public testing::Test {
 protected:
  OrderedJson run() {
    const FakeServer server(
        openai_server([](const FakeRequest&) { return token_stream(5, 2, 1); }));
    plan_.url = server.url();
    plan_.workload.requests = 12;
    plan_.workload.prompt_tokens = LengthDistribution::always(7);
    plan_.slo.ttft_ms = 60'000;
    measured_ = measure(plan_);
    return result_json({"moeopt 0", {{"cpu", "x"}}, &plan_, &measured_});
  }
  MeasurementPlan plan_;
  Measurement measured_;
};

TEST_F(KeptResults, AreReadBackAsTheyWere) {
  const OrderedJson json = run();
  EXPECT_EQ(json["summary"]["output_tokens"], 60);
  EXPECT_EQ(json["summary"]["goodput"]["requests"], 12);
  EXPECT_EQ(json["server"]["model"], "fake");
  EXPECT_EQ(json["server"]["host"], "this machine");
  EXPECT_TRUE(json["server"]["health"].is_null());
  EXPECT_TRUE(json["server"]["counters_moved"].is_null());
  for (const OrderedJson& warning : json["warnings"]) {
    // Of a busy machine it may warn; there is nothing else to warn of.
    EXPECT_THAT(warning.get<std::string>(), HasSubstr("the client"));
  }
  const KeptResult kept =
      read_result(parse_ordered_json(json.dump(), "r", {.nodes = 100'000}), "r");
  const Summary before = measured_.summary, after = summarise(kept.run, plan_.slo);
  EXPECT_EQ(summary_json(before, plan_.slo), summary_json(after, plan_.slo));
  EXPECT_THAT(compare_results(kept, kept).obstacles, IsEmpty());
}

TEST_F(KeptResults, RefuseWhatIsBrokenAndNameTheField) {
  const OrderedJson good = run();
  const auto complaint = [&good](const std::function<void(OrderedJson&)>& change) -> std::string {
    OrderedJson json = good;
    change(json);
    try {
      read_result(json, "r.json");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(complaint([](OrderedJson& j) { j = 5; }), HasSubstr("r.json: it is not an object"));
  EXPECT_THAT(complaint([](OrderedJson& j) { j["schema"] = "other/1"; }), HasSubstr("\"schema\""));
  EXPECT_THAT(complaint([](OrderedJson& j) { j.erase("machine"); }), HasSubstr("\"machine\""));
  EXPECT_THAT(complaint([](OrderedJson& j) { j["duration_s"] = "1"; }),
              HasSubstr("\"duration_s\""));
  EXPECT_THAT(complaint([](OrderedJson& j) { j["workload"] = 1; }), HasSubstr("\"workload\""));
  EXPECT_THAT(complaint([](OrderedJson& j) { j["server"]["optimisations"] = {5}; }),
              HasSubstr("optimisations"));
  EXPECT_THAT(complaint([](OrderedJson& j) { j["requests"] = 1; }), HasSubstr("\"requests\""));
  EXPECT_THAT(complaint([](OrderedJson& j) { j["requests"][3]["end_us"] = -5; }),
              HasSubstr("requests[3]: \"end_us\""));
  EXPECT_THAT(complaint([](OrderedJson& j) { j["requests"][3]["end_us"] = 1e300; }),
              HasSubstr("\"end_us\""));
  EXPECT_THAT(
      complaint([](OrderedJson& j) { j["requests"][3]["output_tokens"] = std::uint64_t{1} << 63; }),
      HasSubstr("\"output_tokens\""));
  EXPECT_THAT(complaint([](OrderedJson& j) {
                j["requests"][3]["gaps_us"] = {1, -1};
              }),
              HasSubstr("\"gaps_us\""));
  EXPECT_EQ(complaint([](OrderedJson&) {}), "accepted");
}

TEST(Warnings, NameWhatMakesFiguresMeanLess) {
  Measurement measured;
  measured.run.records.resize(2);
  measured.run.records[0].has_usage = true;
  measured.run.records[0].output_tokens = 10;
  measured.run.records[1].has_usage = true;
  measured.run.duration_s = 1;
  measured.run.client = {0.1, 1.0, 20, 0.5, 1};
  measured.counters = Counters{{"moeopt:generation_tokens_total", 10}};
  measured.summary = summarise(measured.run, {});
  EXPECT_THAT(warnings_about(measured), IsEmpty());
  measured.counters->at("moeopt:generation_tokens_total") = 11;
  EXPECT_THAT(warnings_about(measured), ElementsAre(HasSubstr("the server counted 11 output")));
  measured.run.client = {0.9, 1.0, 20, 50, 90};
  EXPECT_THAT(warnings_about(measured), Contains(HasSubstr("busy for 90%")));
  EXPECT_THAT(warnings_about(measured), Contains(HasSubstr("50.0 ms late")));
  measured.run.records[1].error = "timeout";
  measured.run.records[0].has_usage = false;
  measured.summary = summarise(measured.run, {});
  EXPECT_THAT(warnings_about(measured), Contains(HasSubstr("1 of 2 requests failed")));
  EXPECT_THAT(warnings_about(measured), Contains(HasSubstr("without usage")));
}

}  // namespace
}  // namespace moeopt::bench
