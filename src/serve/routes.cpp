// The table of routes.
#include <array>

#include "serve/endpoints/endpoints.h"

namespace moeopt::serve {
namespace {

namespace e = endpoints;

constexpr std::array<Route, 15> kRoutes = {{
    {"POST", "/v1/chat/completions", "Answer a conversation", true, true, false,
     e::chat_completions},
    {"POST", "/v1/completions", "Continue a text", true, true, false, e::completions},
    {"GET", "/v1/models", "The models that are served", true, true, true, e::models},
    {"GET", "/v1/models/{model}", "One of them", true, true, true, e::one_model},
    {"POST", "/tokenize", "Token ids of a text or a conversation", true, true, false, e::tokenize},
    {"POST", "/detokenize", "The text of token ids", true, true, false, e::detokenize},
    {"GET", "/health", "Alive, and the true state of every optimisation", false, false, true,
     e::health},
    {"GET", "/ready", "200 when requests are taken, else 503 with the progress", false, false, true,
     e::ready},
    {"GET", "/metrics", "Prometheus metrics", true, false, true, e::metrics},
    {"GET", "/version", "Of the program", true, false, true, e::version},
    {"GET", "/plan", "The memory plan that the engine allocated from", true, true, true, e::plan},
    {"GET", "/v1/routing", "Rows per layer and expert, in all and lately", true, true, true,
     e::routing},
    {"GET", "/openapi.json", "This document", true, false, true, e::openapi},
    {"GET", "/", "The page", false, false, true, e::page},
    {"GET", "/{file}", "Its files", false, false, true, e::page},
}};

}  // namespace

std::span<const Route> route_table() {
  return kRoutes;
}

}  // namespace moeopt::serve
