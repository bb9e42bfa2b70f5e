// App: what the server answers, without its sockets. Routes, who may use them, the state of the
// server, and the model behind it.
// Invariants: handle() answers everything, in OpenAI's shape where it is an error; no endpoint but
// /health, /ready and the page answers without a key where keys are asked for.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "serve/access_log.h"
#include "serve/api_keys.h"
#include "serve/http/message.h"
#include "serve/served_model.h"
#include "serve/server_metrics.h"

namespace moeopt::serve {

struct AppOptions {
  ApiKeys keys;
  std::vector<std::string> allowed_origins;      // "*": all; empty: no CORS
  std::chrono::milliseconds request_timeout{0};  // of a generation; 0: none
  bool log_prompts = false;
  std::string version, commit, build;
};

enum class Phase { kLoading, kReady, kDraining };

class App;

struct Route {
  std::string_view method;
  std::string_view path;     // "/v1/models/{model}": the last part may be anything
  std::string_view summary;  // for the OpenAPI document
  bool needs_key;
  bool needs_model;  // 503 while there is none
  bool quick;        // answered on the I/O thread
  Reply (*handle)(App& app, const HttpRequest& request);
};

// All of them, in the document's order.
std::span<const Route> route_table();

class App final : public HttpHandler {
 public:
  // `log` may be null.
  App(AppOptions options, AccessLog* log);

  // What is being done before the model is there, and how far it is (0 to 1).
  void set_progress(std::string what, double fraction);
  // Once. `model` is used until the server has stopped.
  void set_model(std::shared_ptr<const ServedModel> model);
  // Generations are refused from now on.
  void drain();

  bool is_quick(const HttpRequest& request) const override;
  Reply handle(const HttpRequest& request) noexcept override;
  // CORS: what lets a page of an allowed origin read the answer.
  std::vector<HttpHeader> headers_for(const HttpRequest& request) const noexcept override;
  HttpResponse refuse(int status, std::string_view message) const override;
  void finished(const RequestRecord& record) noexcept override;

  // For the endpoints.
  const AppOptions& options() const { return options_; }
  Phase phase() const { return phase_; }
  // Null while loading.
  const ServedModel* model() const { return ready_model_.load(); }
  const std::shared_ptr<ServerMetrics>& metrics() const { return metrics_; }
  const AccessLog* log() const { return log_; }
  double uptime_s() const;
  std::string progress_what() const;
  double progress() const { return progress_; }

 private:
  Reply dispatch(const HttpRequest& request);
  HttpResponse preflight(const HttpRequest& request) const;

  const AppOptions options_;
  AccessLog* const log_;
  const std::chrono::steady_clock::time_point started_;
  const std::shared_ptr<ServerMetrics> metrics_ = std::make_shared<ServerMetrics>();
  std::shared_ptr<const ServedModel> model_;
  std::atomic<const ServedModel*> ready_model_{nullptr};
  std::atomic<Phase> phase_{Phase::kLoading};
  std::atomic<double> progress_{0};
  mutable std::mutex mutex_;
  std::string progress_what_ = "starting";
};

}  // namespace moeopt::serve
