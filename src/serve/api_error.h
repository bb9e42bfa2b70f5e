// What a client is told when a request fails: a status and OpenAI's error body. Nothing of this
// machine (paths, addresses) is in it.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "serve/http/message.h"

namespace moeopt::serve {

class ApiError : public std::runtime_error {
 public:
  // `param` is the path of the field at fault ("messages[2].role"), empty when none is; `code` is
  // for programs ("model_not_found").
  ApiError(int status, const std::string& message, std::string param = {}, std::string code = {});

  int status() const noexcept { return status_; }
  const std::string& param() const noexcept { return param_; }
  const std::string& code() const noexcept { return code_; }

  OrderedJson body() const;  // {"error": {message, type, param, code}}
  // With Retry-After where waiting may help (429, 503).
  HttpResponse response() const;

 private:
  int status_;
  std::string param_, code_;
};

// 400 for the field `param`.
template <typename... Args>
[[noreturn]] void refuse_field(std::string_view param, fmt::format_string<Args...> format,
                               Args&&... args) {
  throw ApiError(400,
                 fmt::format("{}: {}", param, fmt::format(format, std::forward<Args>(args)...)),
                 std::string(param), "invalid_value");
}

// As the client may see it: the message of what a client can cause, a plain 500 for the rest.
ApiError to_api_error(const Error& error);

// JSON text of what may hold invalid UTF-8, which becomes U+FFFD.
std::string dump(const OrderedJson& json);

HttpResponse json_response(const OrderedJson& json, int status = 200);

}  // namespace moeopt::serve
