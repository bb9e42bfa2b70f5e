// /metrics: Prometheus' text. Names are vLLM's, with our prefix, where vLLM has one.
#include "serve/endpoints/endpoints.h"

namespace moeopt::serve::endpoints {
namespace {

double as_double(std::uint64_t value) {
  return static_cast<double>(value);
}

void write_engine(PrometheusText& out, const ServedModel& model, const EngineSnapshot& snapshot) {
  const MetricLabels labels = {{"model_name", model.name()}};
  const auto one = [&](std::string_view name, std::string_view type, std::string_view help,
                       double value) { out.one(name, type, help, value, labels); };
  const EngineCounters& counters = snapshot.counters;
  one("moeopt:num_requests_running", "gauge", "Sequences that hold a slot.", snapshot.running);
  one("moeopt:num_requests_waiting", "gauge", "Sequences that wait for one.", snapshot.waiting);
  const int total = std::max(1, snapshot.blocks_total);
  one("moeopt:kv_cache_usage_perc", "gauge", "Share of the KV blocks that are live, 0 to 1.",
      static_cast<double>(snapshot.blocks_live) / total);
  out.family("moeopt:kv_blocks", "gauge", "KV blocks by state.");
  out.sample(snapshot.blocks_free, {{"state", "free"}});
  out.sample(snapshot.blocks_live, {{"state", "live"}});
  out.sample(snapshot.blocks_cached, {{"state", "cached"}});
  one("moeopt:prompt_tokens_total", "counter", "Prompt tokens of admitted requests.",
      as_double(counters.prompt_tokens));
  one("moeopt:generation_tokens_total", "counter", "Tokens generated.",
      as_double(counters.output_tokens));
  one("moeopt:prefill_tokens_total", "counter", "Tokens computed in prefill, again included.",
      as_double(counters.prefill_tokens));
  one("moeopt:num_preemptions_total", "counter", "Sequences put back for lack of blocks.",
      as_double(counters.preemptions));
  one("moeopt:prefix_cache_queries_total", "counter",
      "Prompt tokens looked up in the prefix cache.", as_double(counters.prefix_queries_tokens));
  one("moeopt:prefix_cache_hits_total", "counter", "Of them, found.",
      as_double(counters.prefix_hits_tokens));
  one("moeopt:engine_steps_total", "counter", "Steps launched.", as_double(counters.steps));
  one("moeopt:engine_failed_steps_total", "counter", "Steps that the backend failed.",
      as_double(counters.failed_steps));
  one("moeopt:moe_layer_launches_total", "counter", "MoE layers that the backend ran.",
      as_double(snapshot.backend.moe_layer_launches));
  out.family("moeopt:step_time_seconds", "histogram", "Time of a step.");
  std::vector<double> bounds;
  bounds.reserve(StepTimeHistogram::kUpperMs.size());
  for (const double ms : StepTimeHistogram::kUpperMs) bounds.push_back(ms / 1000);
  out.histogram(bounds, snapshot.step_time.counts, snapshot.step_time.sum_ms / 1000, labels);

  out.family("moeopt:expert_rows_total", "counter", "(token, expert) rows by layer and expert.");
  for (int layer = 0; layer < snapshot.experts.n_layers(); ++layer) {
    for (int expert = 0; expert < snapshot.experts.n_experts(layer); ++expert) {
      out.sample(as_double(snapshot.experts.layer(layer)[static_cast<std::size_t>(expert)]),
                 {{"layer", std::to_string(layer)}, {"expert", std::to_string(expert)}});
    }
  }
  out.family("moeopt:optimisation_applied", "gauge", "1: applied, 0: not, by optimisation.");
  const std::vector<OptimisationState> states = model.optimisations();
  for (const OptimisationState& state : states) {
    out.sample(
        state.status == OptimisationStatus::kApplied ? 1 : 0,
        {{"name", state.name}, {"state", std::string(optimisation_status_name(state.status))}});
  }
  out.family("moeopt:optimisation_launches_total", "counter", "Launches that it counted itself.");
  for (const OptimisationState& state : states) {
    out.sample(as_double(state.launches), {{"name", state.name}});
  }
}

void write_routing_log(PrometheusText& out, const RoutingLogWriter::State& state) {
  const RoutingTotals& totals = state.totals;
  out.family("moeopt:routing_log_requests_total", "counter",
             "Requests that ended while routing was recorded, by what became of them.");
  out.sample(as_double(totals.requests), {{"state", "written"}});
  out.sample(as_double(totals.dropped_requests), {{"state", "dropped"}});
  out.sample(as_double(totals.unsampled_requests), {{"state", "unsampled"}});
  out.family("moeopt:routing_log_tokens_total", "counter", "Tokens of them.");
  out.sample(as_double(totals.tokens), {{"state", "written"}});
  out.sample(as_double(totals.dropped_tokens), {{"state", "dropped"}});
  out.one("moeopt:routing_log_bytes_total", "counter", "Bytes of the routing log.",
          as_double(state.bytes_written));
  out.one("moeopt:routing_log_failed", "gauge",
          "1: the recording ended by an error, such as a full disk.", state.error.empty() ? 0 : 1);
}

void write_labelled(PrometheusText& out, std::string_view name, std::string_view help,
                    std::string_view label, const LabelledCounter& counter) {
  out.family(name, "counter", help);
  for (const auto& [value, count] : counter.values()) {
    out.sample(as_double(count), {{label, value}});
  }
}

}  // namespace

Reply metrics(App& app, const HttpRequest&) {
  PrometheusText out;
  ServerMetrics& ours = *app.metrics();
  out.one("moeopt:ready", "gauge", "1 while requests are taken.",
          app.phase() == Phase::kReady ? 1 : 0);
  out.one("moeopt:uptime_seconds", "gauge", "Since the program started.", app.uptime_s());
  write_labelled(out, "moeopt:http_requests_total", "Requests answered, by status.", "status",
                 ours.requests);
  write_labelled(out, "moeopt:errors_total", "Requests that failed, by cause.", "cause",
                 ours.errors);
  write_labelled(out, "moeopt:request_success_total", "Choices that ended, by finish reason.",
                 "finished_reason", ours.finished);
  out.one("moeopt:log_lines_lost_total", "counter", "Log lines that could not be written.",
          app.log() != nullptr ? as_double(app.log()->n_lost()) : 0);
  if (const ServedModel* model = app.model()) {
    write_engine(out, *model, model->engine->snapshot());
    if (model->routing_log) write_routing_log(out, model->routing_log());
    const MetricLabels labels = {{"model_name", model->name()}};
    const auto histogram = [&](std::string_view name, std::string_view help,
                               const Histogram& values) {
      out.family(name, "histogram", help);
      out.histogram(values, labels);
    };
    histogram("moeopt:time_to_first_token_seconds", "From arrival to a choice's first token.",
              ours.time_to_first_token_s);
    histogram("moeopt:inter_token_latency_seconds", "Between tokens of a choice.",
              ours.inter_token_s);
    histogram("moeopt:e2e_request_latency_seconds", "From arrival to the end.", ours.request_s);
    histogram("moeopt:request_prompt_tokens", "Of a prompt.", ours.prompt_tokens);
    histogram("moeopt:request_generation_tokens", "Of a request.", ours.output_tokens);
  }
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = out.text();
  return response;
}

}  // namespace moeopt::serve::endpoints
