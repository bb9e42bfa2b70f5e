#include "serve/openai/completion_request.h"

#include <algorithm>

namespace moeopt::serve {
namespace {

constexpr std::size_t kMostPromptIds = 1 << 24;

std::vector<std::int32_t> read_ids(const OrderedJson& value, std::string_view path) {
  std::vector<std::int32_t> ids;
  ids.reserve(value.size());
  for (std::size_t i = 0; i < value.size(); ++i) {
    // The name is made only when it is needed: lists of ids are long.
    if (!value[i].is_number_unsigned() || value[i].get<std::uint64_t>() > INT32_MAX) {
      read_integer(value[i], fmt::format("{}[{}]", path, i), 0, INT32_MAX);
    }
    ids.push_back(value[i].get<std::int32_t>());
  }
  if (ids.empty()) refuse_field(path, "is empty");
  return ids;
}

void read_prompt(const OrderedJson& value, std::string_view path, CompletionRequest& into) {
  const auto add_text = [&into](const OrderedJson& text, std::string_view where) {
    into.prompts.emplace_back(read_string(text, where, kMostText));
  };
  if (value.is_string()) return add_text(value, path);
  if (!value.is_array()) {
    refuse_field(path, "expected a text, a list of token ids, or a list of either");
  }
  if (value.empty()) refuse_field(path, "is empty");
  if (value.front().is_number()) {
    read_array(value, path, kMostPromptIds);
    into.prompts.emplace_back(read_ids(value, path));
    return;
  }
  read_array(value, path, kMostChoices);
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", path, i);
    if (value[i].is_array()) {
      into.prompts.emplace_back(read_ids(read_array(value[i], where, kMostPromptIds), where));
    } else {
      add_text(value[i], where);
    }
  }
}

OrderedJson prompt_schema() {
  const OrderedJson text = {{"type", "string"}};
  const OrderedJson ids = {{"type", "array"}, {"minItems", 1}, {"items", token_id_schema()}};
  const OrderedJson list = {{"type", "array"},
                            {"minItems", 1},
                            {"maxItems", kMostChoices},
                            {"items", {{"oneOf", {text, ids}}}}};
  return schema_of(
      {{"oneOf", {text, ids, list}}},
      "A text, a list of token ids, or a list of either. A special token's spelling in a "
      "text becomes its id, as the prompt is the caller's own; texts of others belong "
      "in chat messages, where it stays text.");
}

Fields<CompletionRequest> make_completion_fields() {
  Fields<CompletionRequest> fields = generation_fields<CompletionRequest>();
  fields.push_back({"prompt", prompt_schema(), read_prompt, true});
  fields.push_back(bool_field<CompletionRequest>("echo", &CompletionRequest::echo,
                                                 "Put the prompt in front of the text."));
  fields.push_back(integer_field<CompletionRequest>(
      "logprobs", 0, kMaxLogprobs, &CompletionRequest::logprobs,
      "Tell the log probabilities of the tokens and of as many likeliest."));
  fields.push_back({"suffix",
                    schema_of({{"type", "string"}, {"maxLength", 0}},
                              "Not supported: refused unless it is empty or null."),
                    [](const OrderedJson& value, std::string_view path, CompletionRequest&) {
                      if (!read_string(value, path, kMostText).empty()) {
                        refuse_field(path, "filling in the middle is not supported");
                      }
                    }});
  return fields;
}

}  // namespace

const Fields<CompletionRequest>& completion_fields() {
  static const Fields<CompletionRequest> fields = make_completion_fields();
  return fields;
}

CompletionRequest parse_completion_request(const OrderedJson& body) {
  CompletionRequest request;
  read_fields(body, completion_fields(), request);
  check_together(request);
  if (request.max_tokens == 0 && !request.echo) {
    refuse_field("max_tokens", "must be 1 or more without echo");
  }
  if (request.prompts.size() * static_cast<std::size_t>(request.n) > kMostChoices) {
    refuse_field("n", "{} prompts with {} choices each are more than {} choices",
                 request.prompts.size(), request.n, kMostChoices);
  }
  return request;
}

}  // namespace moeopt::serve
