// The address of a server: http://HOST[:PORT][/BASE].
#pragma once

#include <string>
#include <string_view>

namespace moeopt::bench {

struct Url {
  std::string host;  // an IPv6 address without its brackets
  std::string port;
  std::string base;  // "" or "/proxied": what comes before /v1

  std::string text() const;       // http://host:port/base
  std::string authority() const;  // host:port, as the Host header wants it
  bool is_loopback() const;
};

// "http://" may be left out; the port is 80 as in any URL; a trailing "/v1", which OpenAI clients
// want in theirs, is taken off. Error(kUsage); Error(kUnsupported) for https.
Url parse_url(std::string_view text);

}  // namespace moeopt::bench
