// The HTTP/1.1 server: sockets, limits, timeouts. Boost stays behind server.cpp and connection.cpp.
// Invariants: no client can hold memory or a thread beyond the limits below; every request that was
// read gets one answer or a closed socket, and one HttpHandler::finished().
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "serve/http/message.h"

namespace moeopt::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";  // an address, or a name that resolves to one
  int port = 8000;                 // 0: any free one
  std::size_t max_header_bytes = std::size_t{16} << 10;
  int max_headers = 100;
  std::size_t max_body_bytes = std::size_t{8} << 20;
  std::size_t max_bodies_bytes = std::size_t{256} << 20;  // of all requests being read or parsed
  int max_connections = 4096;
  std::chrono::milliseconds header_timeout{10'000};  // from the first byte to the empty line
  std::chrono::milliseconds body_timeout{30'000};
  std::chrono::milliseconds idle_timeout{75'000};   // between requests
  std::chrono::milliseconds write_timeout{30'000};  // without the client taking a byte
};

class HttpServer {
 public:
  // Binds and listens. Error(kUsage) for a host that is none, Error(kIo) when the port is taken.
  HttpServer(const HttpOptions& options, HttpHandler& handler);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  int port() const;
  void start();  // its threads; once

  // From now on a connection ends with the request that is being answered, and idle ones at once.
  // New connections are still taken, for one answer each.
  void drain();
  // Waits until no request is being answered; false when that took longer. What is still being read
  // does not count.
  bool wait_answered(std::chrono::milliseconds at_most);
  // From now on a request that is not there as a whole is refused or its connection closed; waits
  // until that is done and nothing is being answered. False when that took longer.
  bool end_reading(std::chrono::milliseconds at_most);
  // Closes every connection and ends the threads. Replies that still live are abandoned.
  void stop();

  int n_connections() const;

 private:
  struct State;
  static std::unique_ptr<State> make_state(const HttpOptions& options, HttpHandler& handler);

  std::unique_ptr<State> state_;
};

}  // namespace moeopt::serve
