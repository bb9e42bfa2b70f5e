// /tokenize and /detokenize, as vLLM has them.
#include "serve/endpoints/endpoints.h"
#include "serve/openai/chat_prompt.h"
#include "serve/openai/chat_request.h"
#include "serve/openai/tokenize_request.h"

namespace moeopt::serve::endpoints {

Reply tokenize(App& app, const HttpRequest& request) {
  TokenizeRequest parsed;
  read_fields(parse_body(request.body), tokenize_fields(), parsed);
  const ServedModel& model = model_named(app, parsed.model);
  if (parsed.prompt.has_value() == !parsed.messages.is_null()) {
    refuse_field("prompt", "either prompt or messages is needed");
  }
  std::vector<std::int32_t> ids;
  if (parsed.prompt) {
    ids = model.tokenizer->encode(*parsed.prompt, parsed.add_special_tokens);
  } else {
    ids = make_chat_prompt({.messages = std::move(parsed.messages),
                            .tools = std::move(parsed.tools),
                            .template_kwargs = std::move(parsed.template_kwargs),
                            .add_generation_prompt = parsed.add_generation_prompt},
                           model)
              .ids;
  }
  OrderedJson json;
  json["count"] = ids.size();
  json["max_model_len"] = model.max_model_len;
  json["tokens"] = ids;
  json["token_strs"] = nullptr;
  if (parsed.return_token_strs) {
    json["token_strs"] = OrderedJson::array();
    for (const std::int32_t id : ids)
      json["token_strs"].push_back(model.tokenizer->id_to_token(id));
  }
  return json_response(json);
}

Reply detokenize(App& app, const HttpRequest& request) {
  DetokenizeRequest parsed;
  read_fields(parse_body(request.body), detokenize_fields(), parsed);
  const ServedModel& model = model_named(app, parsed.model);
  for (const std::int32_t id : parsed.tokens) {
    if (id >= model.vocab) {
      refuse_field("tokens", "token id {} is outside the vocabulary of {}", id, model.vocab);
    }
  }
  return json_response({{"prompt", model.tokenizer->decode(parsed.tokens, false)}});
}

}  // namespace moeopt::serve::endpoints
