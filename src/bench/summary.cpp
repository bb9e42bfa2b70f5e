#include "bench/summary.h"

#include <fmt/format.h>

namespace moeopt::bench {
namespace {

std::string row(std::string_view name, const Spread& spread) {
  if (spread.count == 0) return fmt::format("{:<22} no samples\n", name);
  return fmt::format("{:<22} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f} {:>9}\n", name,
                     spread.mean, spread.p50, spread.p90, spread.p99, spread.max, spread.count);
}

std::string slo_text(const Slo& slo) {
  std::string text;
  if (slo.ttft_ms) text += fmt::format("first token within {} ms", *slo.ttft_ms);
  if (slo.token_ms) {
    text += fmt::format("{}a later token every {} ms on average", text.empty() ? "" : ", ",
                        *slo.token_ms);
  }
  return text;
}

}  // namespace

bool Slo::is_met_by(const RequestRecord& record) const {
  if (!record.ok()) return false;
  if (ttft_ms && (record.first_text_us < 0 || record.ttft_ms() > *ttft_ms)) return false;
  return !token_ms || record.token_ms() <= *token_ms;
}

Summary summarise(const LoadRun& run, const Slo& slo) {
  Summary summary;
  summary.duration_s = run.duration_s;
  std::vector<double> ttft, gaps, token, e2e;
  for (const RequestRecord& record : run.records) {
    ++summary.requests;
    if (!record.ok()) {
      ErrorCount& error = summary.errors[record.error];
      if (error.count++ == 0) error.example = record.error_text;
      continue;
    }
    ++summary.answered;
    summary.prompt_tokens += record.prompt_tokens;
    summary.cached_tokens += record.cached_tokens;
    summary.output_tokens += record.output_tokens;
    if (record.has_usage) ++summary.counted_by_server;
    if (record.first_text_us >= 0) ttft.push_back(record.ttft_ms());
    if (record.token_ms() >= 0) token.push_back(record.token_ms());
    e2e.push_back(record.e2e_ms());
    for (const std::uint32_t gap_us : record.gaps_us) gaps.push_back(gap_us / 1000.0);
    if (slo.is_stated() && slo.is_met_by(record)) ++summary.good;
  }
  summary.ttft_ms = spread_of(std::move(ttft));
  summary.inter_token_ms = spread_of(std::move(gaps));
  summary.token_ms = spread_of(std::move(token));
  summary.e2e_ms = spread_of(std::move(e2e));
  if (run.duration_s > 0) {
    const auto output = static_cast<double>(summary.output_tokens);
    summary.output_tokens_per_s = output / run.duration_s;
    summary.total_tokens_per_s =
        (output + static_cast<double>(summary.prompt_tokens)) / run.duration_s;
    summary.requests_per_s = summary.answered / run.duration_s;
    summary.goodput_per_s = summary.good / run.duration_s;
  }
  return summary;
}

OrderedJson spread_json(const Spread& spread) {
  if (spread.count == 0) return {{"count", 0}};
  return {{"count", spread.count}, {"mean", spread.mean}, {"min", spread.min}, {"p50", spread.p50},
          {"p90", spread.p90},     {"p99", spread.p99},   {"max", spread.max}};
}

OrderedJson summary_json(const Summary& summary, const Slo& slo) {
  OrderedJson errors = OrderedJson::object();
  for (const auto& [kind, error] : summary.errors) {
    errors[kind] = {{"count", error.count}, {"example", error.example}};
  }
  OrderedJson json = {{"requests", summary.requests},
                      {"answered", summary.answered},
                      {"errors", std::move(errors)},
                      {"duration_s", summary.duration_s},
                      {"prompt_tokens", summary.prompt_tokens},
                      {"cached_tokens", summary.cached_tokens},
                      {"output_tokens", summary.output_tokens},
                      {"requests_counted_by_server", summary.counted_by_server},
                      {"output_tokens_per_s", summary.output_tokens_per_s},
                      {"total_tokens_per_s", summary.total_tokens_per_s},
                      {"requests_per_s", summary.requests_per_s},
                      {"ttft_ms", spread_json(summary.ttft_ms)},
                      {"inter_token_ms", spread_json(summary.inter_token_ms)},
                      {"token_ms", spread_json(summary.token_ms)},
                      {"e2e_ms", spread_json(summary.e2e_ms)}};
  if (slo.is_stated()) {
    json["goodput"] = {{"slo_ttft_ms", slo.ttft_ms ? OrderedJson(*slo.ttft_ms) : OrderedJson()},
                       {"slo_itl_ms", slo.token_ms ? OrderedJson(*slo.token_ms) : OrderedJson()},
                       {"requests", summary.good},
                       {"requests_per_s", summary.goodput_per_s}};
  }
  return json;
}

std::string summary_text(const Summary& summary, const Slo& slo) {
  std::string text = fmt::format(
      "requests   {} answered of {} in {:.2f} s, {:.2f} a second\n"
      "tokens     {} prompt ({} from the prefix cache), {} output\n"
      "speed      {:.1f} output tokens/s, {:.1f} tokens/s in all\n",
      summary.answered, summary.requests, summary.duration_s, summary.requests_per_s,
      summary.prompt_tokens, summary.cached_tokens, summary.output_tokens,
      summary.output_tokens_per_s, summary.total_tokens_per_s);
  if (slo.is_stated()) {
    text += fmt::format("goodput    {:.2f} requests/s, {} of {} ({})\n", summary.goodput_per_s,
                        summary.good, summary.requests, slo_text(slo));
  }
  text += fmt::format("\n{:<22} {:>10} {:>10} {:>10} {:>10} {:>10} {:>9}\n", "milliseconds", "mean",
                      "p50", "p90", "p99", "max", "samples");
  text += row("time to first token", summary.ttft_ms);
  text += row("between tokens", summary.inter_token_ms);
  text += row("a later token, mean", summary.token_ms);
  text += row("end to end", summary.e2e_ms);
  for (const auto& [kind, error] : summary.errors) {
    text += fmt::format("\nFAILED     {} x {}: {}", error.count, kind, error.example);
  }
  if (!summary.errors.empty()) text += "\n";
  return text;
}

}  // namespace moeopt::bench
