#include "serve/app.h"

#include <algorithm>
#include <new>
#include <optional>

#include "base/log.h"
#include "base/strings.h"
#include "serve/api_error.h"
#include "serve/page_files.h"

namespace moeopt::serve {
namespace {

bool matches(std::string_view pattern, std::string_view path) {
  if (pattern == "/{file}")
    return find_page_file(path.substr(std::min<std::size_t>(1, path.size())));
  const std::size_t brace = pattern.find('{');
  if (brace == std::string_view::npos) return pattern == path;
  return path.size() > brace && path.starts_with(pattern.substr(0, brace));
}

// The route of this method and path; `allowed` gathers the methods of the path's other routes.
const Route* find_route(std::string_view method, std::string_view path, std::string& allowed) {
  if (method == "HEAD") method = "GET";
  const Route* found = nullptr;
  for (const Route& route : route_table()) {
    if (!matches(route.path, path)) continue;
    if (!allowed.empty()) allowed += ", ";
    allowed += route.method;
    if (route.method == method && found == nullptr) found = &route;
  }
  return found;
}

bool is_json(std::string_view content_type) {
  const std::size_t end = std::min(content_type.find(';'), content_type.size());
  content_type = content_type.substr(0, end);
  while (!content_type.empty() && content_type.back() == ' ') content_type.remove_suffix(1);
  return same_header(content_type, "application/json");
}

// One cause of each request that failed, "" of the others. A generation says its own ("timeout"),
// which a stream cannot say by its status.
std::string cause_of(const RequestRecord& record) {
  if (record.outcome == "ok") return {};
  if (record.status == 499) return record.outcome == "slow reader" ? "slow_reader" : "client_gone";
  if (record.outcome != "error" && record.outcome != "bad http") return record.outcome;
  return fmt::format("http_{}", record.status);
}

}  // namespace

App::App(AppOptions options, AccessLog* log)
    : options_(std::move(options)), log_(log), started_(std::chrono::steady_clock::now()) {}

void App::set_progress(std::string what, double fraction) {
  const std::lock_guard lock(mutex_);
  progress_what_ = std::move(what);
  progress_ = fraction;
}

std::string App::progress_what() const {
  const std::lock_guard lock(mutex_);
  return progress_what_;
}

void App::set_model(std::shared_ptr<const ServedModel> model) {
  model_ = std::move(model);
  ready_model_ = model_.get();
  Phase loading = Phase::kLoading;
  phase_.compare_exchange_strong(loading, Phase::kReady);
}

void App::drain() {
  phase_ = Phase::kDraining;
}

double App::uptime_s() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
}

bool App::is_quick(const HttpRequest& request) const {
  std::string allowed;
  const Route* route = find_route(request.method, request.path, allowed);
  return route == nullptr || route->quick;
}

std::vector<HttpHeader> App::headers_for(const HttpRequest& request) const noexcept try {
  const std::vector<std::string>& allowed = options_.allowed_origins;
  if (allowed.empty()) return {};
  if (std::ranges::find(allowed, "*") != allowed.end()) {
    return {{"Access-Control-Allow-Origin", "*"}};
  }
  // NOTE: where the origin decides, a cache must know so of the answers to other origins too.
  std::vector<HttpHeader> headers = {{"Vary", "Origin"}};
  const auto origin = std::ranges::find(allowed, request.header("origin"));
  if (origin != allowed.end()) headers.push_back({"Access-Control-Allow-Origin", *origin});
  return headers;
} catch (const std::bad_alloc&) {
  return {};
}

HttpResponse App::preflight(const HttpRequest&) const {
  HttpResponse response;
  response.status = 204;
  // NOTE: by the Fetch standard * takes in all headers (clients send their own) but authorization.
  response.headers = {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                      {"Access-Control-Allow-Headers", "authorization, *"},
                      {"Access-Control-Max-Age", "600"}};
  return response;
}

Reply App::handle(const HttpRequest& request) noexcept {
  Reply reply;
  try {
    try {
      reply = dispatch(request);
    } catch (const ApiError& error) {
      reply = error.response();
    } catch (const Error& error) {
      reply = to_api_error(error).response();
    } catch (const std::bad_alloc&) {
      reply = ApiError(503, "out of memory", {}, "out_of_memory").response();
    } catch (const std::exception& error) {
      log::error("a request failed: {}", error.what());
      reply = ApiError(500, "an internal error; the server's log says more", {}, "internal_error")
                  .response();
    }
  } catch (...) {  // no memory even for the answer
    HttpResponse response;
    response.status = 503;
    reply = std::move(response);
  }
  return reply;
}

Reply App::dispatch(const HttpRequest& request) {
  std::string allowed;
  const Route* route = find_route(request.method, request.path, allowed);
  if (route == nullptr) {
    if (request.method == "OPTIONS" && !allowed.empty() && !options_.allowed_origins.empty()) {
      return preflight(request);
    }
    if (allowed.empty()) {
      throw ApiError(404, fmt::format("there is no {}", printable(request.path, 100)), {},
                     "unknown_url");
    }
    HttpResponse response =
        ApiError(405, fmt::format("{} takes {}", printable(request.path, 100), allowed), {},
                 "method_not_allowed")
            .response();
    response.headers.push_back({"Allow", allowed});
    return response;
  }
  if (route->needs_key && !options_.keys.allow(request.header("authorization"))) {
    throw ApiError(401, "a key is needed: Authorization: Bearer KEY", {}, "invalid_api_key");
  }
  if (route->method == "POST" && !is_json(request.header("content-type"))) {
    throw ApiError(415, "the body must be JSON: Content-Type: application/json", {},
                   "unsupported_media_type");
  }
  if (route->needs_model && model() == nullptr) {
    throw ApiError(503, "the model is still loading", {}, "loading");
  }
  if (route->method == "POST" && phase() == Phase::kDraining) {
    throw ApiError(503, "shutting down: no new requests", {}, "unavailable");
  }
  return route->handle(*this, request);
}

HttpResponse App::refuse(int status, std::string_view message) const {
  return ApiError(status, std::string(message), {}, "bad_request").response();
}

void App::finished(const RequestRecord& record) noexcept {
  try {
    metrics_->requests.add(std::to_string(record.status));
    if (const std::string cause = cause_of(record); !cause.empty()) metrics_->errors.add(cause);
    if (log_ != nullptr) log_->write(record);
  } catch (...) {  // no memory for a log line: the server goes on
  }
}

}  // namespace moeopt::serve
