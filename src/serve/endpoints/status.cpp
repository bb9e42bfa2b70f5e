// /health, /ready, /version, /plan, /v1/routing: what the server says of itself.
#include "plan/report.h"
#include "serve/api_error.h"
#include "serve/endpoints/endpoints.h"

namespace moeopt::serve::endpoints {
namespace {

bool is_unhealthy(const App& app, const EngineSnapshot& snapshot) {
  switch (snapshot.state) {
    case ServiceState::kStuck:
    case ServiceState::kFailing:
      return true;
    case ServiceState::kStopped:
      return app.phase() != Phase::kDraining;
    default:
      return false;
  }
}

OrderedJson engine_json(const EngineSnapshot& snapshot) {
  OrderedJson json = {{"state", service_state_name(snapshot.state)},
                      {"running", snapshot.running},
                      {"waiting", snapshot.waiting},
                      {"max_running", snapshot.max_running},
                      {"steps", snapshot.counters.steps},
                      {"failed_steps", snapshot.counters.failed_steps},
                      {"preemptions", snapshot.counters.preemptions},
                      {"silent_for_ms", snapshot.silent_for.count()}};
  json["last_failure"] = nullptr;
  if (!snapshot.last_failure.empty()) json["last_failure"] = snapshot.last_failure;
  json["kv_blocks"] = {{"free", snapshot.blocks_free},
                       {"live", snapshot.blocks_live},
                       {"cached", snapshot.blocks_cached},
                       {"total", snapshot.blocks_total}};
  json["backend"] = {{"steps", snapshot.backend.steps},
                     {"tokens", snapshot.backend.tokens},
                     {"moe_layer_launches", snapshot.backend.moe_layer_launches},
                     {"expert_rows", snapshot.backend.expert_rows}};
  return json;
}

// The states without the paths of this machine: /health asks for no key.
OrderedJson public_states(const ServedModel& model) {
  OrderedJson states(optimisations_json(model.optimisations()));
  for (OrderedJson& state : states) {
    auto& origin = state["origin"].get_ref<std::string&>();
    if (const auto path = origin.find(" ("); path != std::string::npos) origin.resize(path);
  }
  return states;
}

std::string_view status_word(const App& app, bool unhealthy) {
  if (unhealthy) return "unhealthy";
  switch (app.phase()) {
    case Phase::kLoading:
      return "loading";
    case Phase::kReady:
      return "ok";
    case Phase::kDraining:
      return "draining";
  }
  return "ok";
}

OrderedJson counts_json(const ExpertCounts& counts) {
  OrderedJson layers = OrderedJson::array();
  for (int layer = 0; layer < counts.n_layers(); ++layer) {
    if (counts.n_experts(layer) > 0) layers.push_back(counts.layer(layer));
  }
  return layers;
}

// null: nothing is recorded.
OrderedJson routing_log_json(const ServedModel& model) {
  if (!model.routing_log) return nullptr;
  const RoutingLogWriter::State state = model.routing_log();
  OrderedJson json = {{"state", state.error.empty() ? "recording" : "failed"},
                      {"error", nullptr},
                      {"requests", state.totals.requests},
                      {"tokens", state.totals.tokens},
                      {"replayed_tokens", state.totals.replayed_tokens},
                      {"cached_tokens", state.totals.cached_tokens},
                      {"dropped_requests", state.totals.dropped_requests},
                      {"dropped_tokens", state.totals.dropped_tokens},
                      {"unsampled_requests", state.totals.unsampled_requests},
                      {"bytes", state.bytes_written},
                      {"parts", state.parts}};
  if (!state.error.empty()) json["error"] = state.error;
  return json;
}

}  // namespace

Reply health(App& app, const HttpRequest&) {
  OrderedJson json;
  const ServedModel* model = app.model();
  if (model == nullptr) {
    json["status"] = status_word(app, false);
    json["version"] = app.options().version;
    json["uptime_s"] = app.uptime_s();
    return json_response(json);
  }
  const EngineSnapshot snapshot = model->engine->snapshot();
  const bool unhealthy = is_unhealthy(app, snapshot);
  json["status"] = status_word(app, unhealthy);
  json["version"] = app.options().version;
  json["uptime_s"] = app.uptime_s();
  json["model"] = model->name();
  json["architecture"] = model->architecture;
  json["backend"] = model->backend;
  json["max_model_len"] = model->max_model_len;
  json["engine"] = engine_json(snapshot);
  json["optimisations"] = public_states(*model);
  return json_response(json, unhealthy ? 503 : 200);
}

Reply ready(App& app, const HttpRequest&) {
  const ServedModel* model = app.model();
  bool is_ready = app.phase() == Phase::kReady && model != nullptr;
  OrderedJson json;
  if (is_ready && is_unhealthy(app, model->engine->snapshot())) {
    is_ready = false;
    json["status"] = "unhealthy";
  } else {
    json["status"] = app.phase() == Phase::kReady ? "ready" : status_word(app, false);
  }
  if (app.phase() == Phase::kLoading) {
    json["doing"] = app.progress_what();
    json["progress"] = app.progress();
  }
  HttpResponse response = json_response(json, is_ready ? 200 : 503);
  if (!is_ready) response.headers.push_back({"Retry-After", "1"});
  return response;
}

Reply version(App& app, const HttpRequest&) {
  const AppOptions& options = app.options();
  return json_response(
      {{"version", options.version}, {"commit", options.commit}, {"build", options.build}});
}

Reply plan(App& app, const HttpRequest&) {
  return json_response(OrderedJson(app.model()->plan));
}

Reply routing(App& app, const HttpRequest&) {
  const ServedModel& model = *app.model();
  const EngineSnapshot snapshot = model.engine->snapshot();
  OrderedJson json;
  json["layers"] = OrderedJson::array();
  for (int layer = 0; layer < snapshot.experts.n_layers(); ++layer) {
    if (snapshot.experts.n_experts(layer) > 0) json["layers"].push_back(layer);
  }
  json["total"] = counts_json(snapshot.experts);
  json["window"] = counts_json(snapshot.experts_window);
  json["window_s"] = CountsWindow::kLength.count();
  json["rows_total"] = snapshot.experts.total();
  json["rows_window"] = snapshot.experts_window.total();
  json["steps"] = snapshot.counters.steps;
  json["log"] = routing_log_json(model);
  return json_response(json);
}

}  // namespace moeopt::serve::endpoints
