// The answer to POST /v1/completions.
#pragma once

#include <string>
#include <vector>

#include "serve/openai/completion_request.h"
#include "serve/openai/generation_reply.h"
#include "serve/openai/token_text.h"

namespace moeopt::serve {

// Makes ids of the prompts, submits, and returns the answer to come. Error and ApiError.
std::shared_ptr<LiveReply> start_completion(const CompletionRequest& request,
                                            const ServedModel& model,
                                            std::shared_ptr<ServerMetrics> metrics,
                                            ReplyOptions options,
                                            std::chrono::milliseconds timeout);

}  // namespace moeopt::serve
