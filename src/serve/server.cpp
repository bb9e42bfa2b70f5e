#include "serve/server.h"

namespace moeopt::serve {
namespace {

// For the last words of requests that were cut off, running or half sent, to reach their clients.
constexpr std::chrono::milliseconds kFarewell{2000};

}  // namespace

Server::Server(const HttpOptions& http, AppOptions app, AccessLog* log)
    : app_(std::move(app), log), http_(http, app_) {}

bool Server::shut_down(std::chrono::milliseconds grace) {
  app_.drain();
  const ServedModel* model = app_.model();
  if (model != nullptr) model->engine->drain();
  http_.drain();
  const bool in_time = http_.wait_answered(grace);
  if (!in_time && model != nullptr) model->engine->stop(std::chrono::milliseconds(0));
  http_.end_reading(kFarewell);
  http_.stop();
  return in_time;
}

}  // namespace moeopt::serve
