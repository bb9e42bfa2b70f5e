// The bodies of POST /tokenize and POST /detokenize.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "serve/openai/field.h"

namespace moeopt::serve {

struct TokenizeRequest {
  std::optional<std::string> model, prompt;
  OrderedJson messages, tools;  // null: absent
  OrderedJson template_kwargs = OrderedJson::object();
  bool add_special_tokens = true;
  bool add_generation_prompt = true;
  bool return_token_strs = false;
};

struct DetokenizeRequest {
  std::optional<std::string> model;
  std::vector<std::int32_t> tokens;
};

const Fields<TokenizeRequest>& tokenize_fields();
const Fields<DetokenizeRequest>& detokenize_fields();

}  // namespace moeopt::serve
