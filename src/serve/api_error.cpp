#include "serve/api_error.h"

#include "base/log.h"

namespace moeopt::serve {
namespace {

std::string_view type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

ApiError::ApiError(int status, const std::string& message, std::string param, std::string code)
    : std::runtime_error(message),
      status_(status),
      param_(std::move(param)),
      code_(std::move(code)) {}

OrderedJson ApiError::body() const {
  OrderedJson error = {{"message", what()}, {"type", type_of(status_)}};
  error["param"] = nullptr;
  if (!param_.empty()) error["param"] = param_;
  error["code"] = nullptr;
  if (!code_.empty()) error["code"] = code_;
  return {{"error", std::move(error)}};
}

HttpResponse ApiError::response() const {
  HttpResponse response = json_response(body(), status_);
  if (status_ == 429) response.headers.push_back({"Retry-After", "1"});
  if (status_ == 503) response.headers.push_back({"Retry-After", "5"});
  if (status_ == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

ApiError to_api_error(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kUsage:
      return {400, error.what(), {}, "invalid_value"};
    case ErrorCode::kOverloaded:
      return {429, error.what(), {}, "overloaded"};
    case ErrorCode::kUnavailable:
      return {503, error.what(), {}, "unavailable"};
    default:
      log::error("a request failed: {}", error.what());
      return {500, "an internal error; the server's log says more", {}, "internal_error"};
  }
}

std::string dump(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

HttpResponse json_response(const OrderedJson& json, int status) {
  HttpResponse response;
  response.status = status;
  response.body = dump(json);
  return response;
}

}  // namespace moeopt::serve
