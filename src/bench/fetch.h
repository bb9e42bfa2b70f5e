// One HTTP request with a whole answer: what the benchmark asks a server about itself.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "bench/url.h"

namespace moeopt::bench {

struct HttpAnswer {
  unsigned status = 0;
  std::string body;
};

// GET, or POST of JSON when `body` is not empty. The answer may have any status. Error(kIo) when
// there is none within `timeout`, or one of more than 64 MiB; Error(kNotFound) for an unknown host.
HttpAnswer fetch(const Url& url, std::string_view path, std::string_view body = {},
                 std::string_view api_key = {},
                 std::chrono::milliseconds timeout = std::chrono::seconds(10));

}  // namespace moeopt::bench
