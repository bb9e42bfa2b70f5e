#include "bench/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>

#include "base/strings.h"
#include "bench/random.h"

namespace moeopt::bench {
namespace {

constexpr std::uint64_t kSeed = 20'240'229;  // the same files always give the same intervals

using Weights = std::vector<std::uint32_t>;

// The answered requests of one result, ready to be weighed.
class Side {
 public:
  explicit Side(const LoadRun& run) : duration_s_(run.duration_s) {
    for (const RequestRecord& record : run.records) {
      if (!record.ok()) continue;
      const std::size_t group = records_.size();
      records_.push_back(&record);
      busy_us_ += static_cast<double>(record.end_us - record.start_us);
      if (record.first_text_us >= 0) ttft_.add(record.ttft_ms(), group);
      if (record.token_ms() >= 0) token_.add(record.token_ms(), group);
      e2e_.add(record.e2e_ms(), group);
      for (const std::uint32_t gap_us : record.gaps_us) gaps_.add(gap_us / 1000.0, group);
    }
    for (GroupedSamples* samples : {&ttft_, &gaps_, &token_, &e2e_}) samples->sort();
  }

  std::size_t requests() const { return records_.size(); }

  double tokens_per_s(const Weights& weights, bool with_prompt) const {
    double tokens = 0, busy_us = 0;
    for (std::size_t i = 0; i < records_.size(); ++i) {
      const RequestRecord& record = *records_[i];
      tokens += weights[i] * (record.output_tokens + (with_prompt ? record.prompt_tokens : 0.0));
      busy_us += weights[i] * static_cast<double>(record.end_us - record.start_us);
    }
    return tokens / (duration_s_ * busy_us / busy_us_);
  }

  const GroupedSamples& ttft() const { return ttft_; }
  const GroupedSamples& gaps() const { return gaps_; }
  const GroupedSamples& token() const { return token_; }
  const GroupedSamples& e2e() const { return e2e_; }

 private:
  double duration_s_;
  double busy_us_ = 0;
  std::vector<const RequestRecord*> records_;
  GroupedSamples ttft_, gaps_, token_, e2e_;
};

struct Figure {
  std::string name;
  bool more_is_better;
  std::function<double(const Side&, const Weights&)> value;
};

std::vector<Figure> figures_of(const Side& a, const Side& b) {
  std::vector<Figure> figures = {
      {"output tokens/s", true,
       [](const Side& side, const Weights& w) { return side.tokens_per_s(w, false); }},
      {"tokens/s in all", true,
       [](const Side& side, const Weights& w) { return side.tokens_per_s(w, true); }}};
  const auto add = [&](const std::string& name, const GroupedSamples& (Side::*samples)() const) {
    if ((a.*samples)().empty() || (b.*samples)().empty()) return;
    for (const int percent : {50, 90, 99}) {
      figures.push_back({fmt::format("{}, p{}", name, percent), false,
                         [samples, percent](const Side& side, const Weights& w) {
                           return (side.*samples)().percentile(percent, w);
                         }});
    }
  };
  add("first token ms", &Side::ttft);
  add("between tokens ms", &Side::gaps);
  add("a later token ms", &Side::token);
  add("end to end ms", &Side::e2e);
  return figures;
}

std::string short_json(const OrderedJson& value) {
  return printable(value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace), 120);
}

// Every key on which the two objects differ, as "what: KEY is X in A and Y in B".
void add_differences(std::string_view what, const OrderedJson& a, const OrderedJson& b,
                     std::vector<std::string>& out) {
  if (a == b) return;
  if (!a.is_object() || !b.is_object()) {
    out.push_back(fmt::format("{}: {} in A, {} in B", what, short_json(a), short_json(b)));
    return;
  }
  std::set<std::string> keys;
  for (const auto& [key, value] : a.items()) keys.insert(key);
  for (const auto& [key, value] : b.items()) keys.insert(key);
  for (const std::string& key : keys) {
    const OrderedJson in_a = a.value(key, OrderedJson()), in_b = b.value(key, OrderedJson());
    if (in_a == in_b) continue;
    out.push_back(fmt::format("{}: {} is {} in A, {} in B", what, printable(key), short_json(in_a),
                              short_json(in_b)));
  }
}

std::vector<std::string> obstacles_between(const KeptResult& a, const KeptResult& b) {
  std::vector<std::string> out;
  add_differences("machine", a.machine, b.machine, out);
  if (a.host != b.host) out.push_back(fmt::format("server: on {} in A, {} in B", a.host, b.host));
  if (a.model != b.model) {
    out.push_back(fmt::format("model: {} in A, {} in B", printable(a.model), printable(b.model)));
  }
  // The name is a label; the architecture is what the server read from the checkpoint.
  const auto architecture = [](const KeptResult& result) {
    return result.health.is_object() ? result.health.value("architecture", OrderedJson())
                                     : OrderedJson();
  };
  add_differences("model's architecture", architecture(a), architecture(b), out);
  add_differences("workload", a.workload, b.workload, out);
  for (const KeptResult* result : {&a, &b}) {
    if (std::ranges::none_of(result->run.records, &RequestRecord::ok)) {
      out.push_back(fmt::format("{}: no request was answered", result->name));
    }
  }
  return out;
}

std::vector<std::string> differences_between(const KeptResult& a, const KeptResult& b) {
  std::vector<std::string> out;
  add_differences("server version", a.version, b.version, out);
  const auto backend = [](const KeptResult& result) {
    return result.health.is_object() ? result.health.value("backend", OrderedJson())
                                     : OrderedJson();
  };
  add_differences("backend", backend(a), backend(b), out);
  std::map<std::string, std::pair<std::string, std::string>> states;
  for (const ServerOptimisation& state : a.optimisations) states[state.name].first = state.state;
  for (const ServerOptimisation& state : b.optimisations) states[state.name].second = state.state;
  for (const auto& [name, pair] : states) {
    if (pair.first == pair.second) continue;
    const auto said = [](const std::string& state) { return state.empty() ? "unknown" : state; };
    out.push_back(fmt::format("{}: {} in A, {} in B", name, said(pair.first), said(pair.second)));
  }
  return out;
}

std::vector<std::string> cautions_about(const KeptResult& a, const KeptResult& b) {
  std::vector<std::string> out;
  for (const KeptResult* result : {&a, &b}) {
    const auto failed = std::ranges::count_if(
        result->run.records, [](const RequestRecord& record) { return !record.ok(); });
    if (failed > 0) {
      out.push_back(fmt::format("{}: {} of {} requests failed and are left out", result->name,
                                failed, result->run.records.size()));
    }
    if (result->run.interrupted) out.push_back(fmt::format("{}: interrupted", result->name));
  }
  if (a.workload.value("arrival", OrderedJson()) == "rate") {
    out.emplace_back("requests came at a given rate: throughput follows it, read the latencies");
  }
  return out;
}

}  // namespace

Comparison compare_results(const KeptResult& a, const KeptResult& b, int resamples) {
  Comparison comparison;
  comparison.obstacles = obstacles_between(a, b);
  comparison.differences = differences_between(a, b);
  if (!comparison.obstacles.empty()) return comparison;
  comparison.cautions = cautions_about(a, b);

  const Side side_a(a.run), side_b(b.run);
  Random random(kSeed);
  std::vector<std::pair<Weights, Weights>> draws;
  for (int i = 0; i < resamples; ++i) {
    Weights of_a = draw_weights(side_a.requests(), random);
    draws.emplace_back(std::move(of_a), draw_weights(side_b.requests(), random));
  }
  const Weights all_a(side_a.requests(), 1), all_b(side_b.requests(), 1);
  for (const Figure& figure : figures_of(side_a, side_b)) {
    ComparedFigure compared{figure.name,
                            figure.more_is_better,
                            figure.value(side_a, all_a),
                            figure.value(side_b, all_b),
                            0,
                            {}};
    if (!(compared.a > 0)) continue;
    compared.ratio = compared.b / compared.a;
    std::size_t next = 0;
    compared.interval = bootstrap_interval(resamples, [&] {
      const auto& [of_a, of_b] = draws[next++];
      return figure.value(side_b, of_b) / figure.value(side_a, of_a);
    });
    comparison.figures.push_back(std::move(compared));
  }
  return comparison;
}

std::string comparison_text(const Comparison& comparison, const KeptResult& a,
                            const KeptResult& b) {
  std::string text = fmt::format("A  {}\nB  {}\n", a.name, b.name);
  for (const std::string& difference : comparison.differences) {
    text += fmt::format("differs   {}\n", difference);
  }
  if (!comparison.obstacles.empty()) {
    text += "\nNot comparable:\n";
    for (const std::string& obstacle : comparison.obstacles) {
      text += fmt::format("  {}\n", obstacle);
    }
    return text;
  }
  for (const std::string& caution : comparison.cautions) {
    text += fmt::format("note      {}\n", caution);
  }
  text +=
      fmt::format("\n{:<24} {:>12} {:>12} {:>8}   {:<18}\n", "", "A", "B", "B / A", "95% interval");
  for (const ComparedFigure& figure : comparison.figures) {
    const bool is_known = !figure.interval.contains(1.0);
    const bool is_better = (figure.ratio > 1.0) == figure.more_is_better;
    text += fmt::format("{:<24} {:>12.2f} {:>12.2f} {:>8.3f}   {:<18} {}\n", figure.name, figure.a,
                        figure.b, figure.ratio,
                        fmt::format("{:.3f} .. {:.3f}", figure.interval.low, figure.interval.high),
                        !is_known   ? "no difference shown"
                        : is_better ? "B better"
                                    : "B worse");
  }
  text +=
      "\nThe interval is of these two runs' requests; only repeated runs show how runs differ.\n";
  return text;
}

OrderedJson comparison_json(const Comparison& comparison) {
  OrderedJson figures = OrderedJson::array();
  for (const ComparedFigure& figure : comparison.figures) {
    figures.push_back({{"name", figure.name},
                       {"more_is_better", figure.more_is_better},
                       {"a", figure.a},
                       {"b", figure.b},
                       {"ratio", figure.ratio},
                       {"low", figure.interval.low},
                       {"high", figure.interval.high}});
  }
  return {{"comparable", comparison.obstacles.empty()},
          {"obstacles", comparison.obstacles},
          {"differences", comparison.differences},
          {"cautions", comparison.cautions},
          {"figures", std::move(figures)}};
}

}  // namespace moeopt::bench
