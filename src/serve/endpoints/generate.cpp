// /v1/chat/completions and /v1/completions.
#include "serve/endpoints/endpoints.h"
#include "serve/openai/chat_reply.h"
#include "serve/openai/chat_request.h"
#include "serve/openai/completion_reply.h"
#include "serve/openai/completion_request.h"

namespace moeopt::serve::endpoints {
namespace {

ReplyOptions reply_options(const App& app, const GenerationFields& fields,
                           const HttpRequest& request,
                           std::chrono::steady_clock::time_point arrived) {
  return {.stream = fields.stream,
          .include_usage = fields.include_usage.value_or(false),
          .continuous_usage = fields.continuous_usage_stats.value_or(false),
          .log_prompts = app.options().log_prompts,
          .id = request.id,
          .arrived = arrived};
}

}  // namespace

Reply chat_completions(App& app, const HttpRequest& request) {
  const auto arrived = std::chrono::steady_clock::now();
  ChatRequest parsed = parse_chat_request(parse_body(request.body));
  const ServedModel& model = model_named(app, parsed.model);
  ReplyOptions options = reply_options(app, parsed, request, arrived);
  return start_chat(std::move(parsed), model, app.metrics(), std::move(options),
                    app.options().request_timeout);
}

Reply completions(App& app, const HttpRequest& request) {
  const auto arrived = std::chrono::steady_clock::now();
  const CompletionRequest parsed = parse_completion_request(parse_body(request.body));
  const ServedModel& model = model_named(app, parsed.model);
  return start_completion(parsed, model, app.metrics(),
                          reply_options(app, parsed, request, arrived),
                          app.options().request_timeout);
}

}  // namespace moeopt::serve::endpoints
