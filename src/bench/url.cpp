#include "bench/url.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt::bench {
namespace {

bool is_plain(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
}

bool is_port(std::string_view text) {
  int value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failed == std::errc{} && end == text.data() + text.size() && value > 0 && value < 65536;
}

}  // namespace

std::string Url::authority() const {
  return host.find(':') == host.npos ? fmt::format("{}:{}", host, port)
                                     : fmt::format("[{}]:{}", host, port);
}

std::string Url::text() const {
  return fmt::format("http://{}{}", authority(), base);
}

bool Url::is_loopback() const {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Url parse_url(std::string_view text) {
  const auto refuse = [&]() -> Error {
    return {ErrorCode::kUsage,
            fmt::format("--url: '{}' is no address of a server", printable(text)),
            "http://HOST:PORT, such as http://127.0.0.1:8000"};
  };
  if (text.starts_with("https://")) {
    throw Error(ErrorCode::kUnsupported, "--url: https is not supported",
                "measure the server itself, behind its reverse proxy");
  }
  std::string_view rest = text;
  if (rest.starts_with("http://")) rest.remove_prefix(7);
  if (!is_plain(rest) || rest.find_first_of("@?#\\") != rest.npos) throw refuse();

  Url url;
  const auto slash = rest.find('/');
  std::string_view place = rest.substr(0, slash);
  if (slash != rest.npos) url.base = rest.substr(slash);
  while (url.base.ends_with('/')) url.base.pop_back();
  if (url.base.ends_with("/v1")) url.base.resize(url.base.size() - 3);

  url.port = "80";
  if (place.starts_with('[')) {
    const auto end = place.find(']');
    if (end == place.npos) throw refuse();
    url.host = place.substr(1, end - 1);
    place.remove_prefix(end + 1);
    if (!place.empty() && !place.starts_with(':')) throw refuse();
    if (!place.empty()) url.port = place.substr(1);
  } else {
    const auto colon = place.find(':');
    url.host = place.substr(0, colon);
    if (colon != place.npos) url.port = place.substr(colon + 1);
  }
  if (url.host.empty() || !is_port(url.port)) throw refuse();
  return url;
}

}  // namespace moeopt::bench
