// The body of POST /v1/completions: parsed, checked, plain.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "serve/openai/generation_fields.h"

namespace moeopt::serve {

using Prompt = std::variant<std::string, std::vector<std::int32_t>>;

struct CompletionRequest : GenerationFields {
  std::vector<Prompt> prompts;  // 1 to kMostChoices / n
  bool echo = false;
  std::optional<int> logprobs;
};

const Fields<CompletionRequest>& completion_fields();

// ApiError(400) names the field.
CompletionRequest parse_completion_request(const OrderedJson& body);

}  // namespace moeopt::serve
