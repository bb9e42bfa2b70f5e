// The answer to POST /v1/chat/completions.
#pragma once

#include <chrono>
#include <memory>

#include "serve/openai/chat_request.h"
#include "serve/openai/generation_reply.h"

namespace moeopt::serve {

// Renders the prompt, submits, and returns the answer to come. Error and ApiError.
std::shared_ptr<LiveReply> start_chat(ChatRequest request, const ServedModel& model,
                                      std::shared_ptr<ServerMetrics> metrics, ReplyOptions options,
                                      std::chrono::milliseconds timeout);

}  // namespace moeopt::serve
