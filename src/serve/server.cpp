#include "serve/server.h"

namespace moeopt::serve {
namespace {

// For the last words of requests that were cut off to reach their clients.
constexpr std::chrono::milliseconds kFarewell{2000};

}  // namespace

Server::Server(const HttpOptions& http, AppOptions app, AccessLog* log)
    : app_(std::move(app), log), http_(http, app_) {}

bool Server::shut_down(std::chrono::milliseconds grace) {
  app_.drain();
  const ServedModel* model = app_.model();
  if (model != nullptr) model->engine->drain();
  http_.drain();
  const bool in_time = http_.wait_idle(grace);
  if (!in_time && model != nullptr) {
    model->engine->stop(std::chrono::milliseconds(0));
    http_.wait_idle(kFarewell);
  }
  http_.stop();
  return in_time;
}

}  // namespace moeopt::serve
