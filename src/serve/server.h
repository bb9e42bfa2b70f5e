// The server as a whole: the app on its sockets, and how it ends.
#pragma once

#include <chrono>
#include <memory>

#include "serve/app.h"
#include "serve/http/server.h"

namespace moeopt::serve {

class Server {
 public:
  // Binds at once, so that a taken port is found before any weight is read. Errors as HttpServer.
  Server(const HttpOptions& http, AppOptions app, AccessLog* log);

  void start() { http_.start(); }
  App& app() { return app_; }
  int port() const { return http_.port(); }
  int n_connections() const { return http_.n_connections(); }

  // Refuses new requests, lets the running ones end for at most `grace`, then ends them with an
  // error that their clients see, and closes. Requests that are not there as a whole are not waited
  // for. True when all running ones came to their own end.
  bool shut_down(std::chrono::milliseconds grace);

 private:
  App app_;
  HttpServer http_;
};

}  // namespace moeopt::serve
