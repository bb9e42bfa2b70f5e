// Any bytes as the body of a request: an ApiError(400) with a body of bounded size, or a typed
// request within the bounds that the engine counts on. The first byte chooses the endpoint.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "backend/sampling_params.h"
#include "base/check.h"
#include "serve/openai/chat_request.h"
#include "serve/openai/completion_request.h"
#include "serve/openai/tokenize_request.h"

namespace moeopt::serve {
namespace {

constexpr int kVocab = 1000, kContext = 2048;
constexpr std::size_t kMostErrorBytes = 8192;

void check_messages(const OrderedJson& messages) {
  MOEOPT_CHECK(messages.is_array());
  MOEOPT_CHECK(!messages.empty());
  MOEOPT_CHECK(messages.size() <= kMostMessages);
  for (const auto& message : messages) {
    MOEOPT_CHECK(message.at("role").is_string());
    MOEOPT_CHECK(message.at("content").is_string());
    if (!message.contains("tool_calls")) continue;
    for (const auto& call : message["tool_calls"]) {
      MOEOPT_CHECK(call.at("function").at("name").is_string());
    }
  }
}

void check_tools(const OrderedJson& tools) {
  if (tools.is_null()) return;
  MOEOPT_CHECK(tools.is_array());
  MOEOPT_CHECK(!tools.empty());
  MOEOPT_CHECK(tools.size() <= kMostTools);
  for (const auto& tool : tools) MOEOPT_CHECK(tool.at("function").at("name").is_string());
}

void check_generation(const GenerationFields& fields) {
  MOEOPT_CHECK(fields.n >= 1);
  MOEOPT_CHECK(fields.n <= kMostChoices);
  MOEOPT_CHECK(fields.stop.size() <= kMostStops);
  MOEOPT_CHECK(fields.stop_token_ids.size() <= 64U);
  for (const std::string& stop : fields.stop) {
    MOEOPT_CHECK(!stop.empty());
    MOEOPT_CHECK(stop.size() <= kMostStopBytes);
  }
  ServedModel model;
  model.vocab = kVocab;
  model.max_model_len = kContext;
  const Request request = make_request(fields, model, 16);
  MOEOPT_CHECK(request.n == fields.n);
  MOEOPT_CHECK(request.max_tokens <= kContext);
  MOEOPT_CHECK(request.max_tokens >= 0);
  validate(request.sampling, kVocab);  // an Error here is one that the client was not told of
  MOEOPT_CHECK(request.sampling.logit_bias.size() <= kMostBiases);
  for (const std::int32_t id : request.stop_ids) {
    MOEOPT_CHECK(id >= 0);
    MOEOPT_CHECK(id < kVocab);
  }
}

void read_chat(const OrderedJson& body) {
  const ChatRequest request = parse_chat_request(body);
  check_messages(request.messages);
  check_tools(request.tools);
  MOEOPT_CHECK(request.template_kwargs.is_object());
  MOEOPT_CHECK(request.top_logprobs.value_or(0) <= kMaxLogprobs);
  if (request.response_format.kind == ResponseFormat::Kind::kJsonSchema) {
    MOEOPT_CHECK(request.response_format.schema.is_object());
  }
  if (request.tool_choice && request.tool_choice->kind == ToolChoice::Kind::kNamed) {
    MOEOPT_CHECK(std::ranges::any_of(request.tools, [&](const auto& tool) {
      return tool["function"]["name"] == request.tool_choice->name;
    }));
  }
  check_generation(request);
}

void read_completion(const OrderedJson& body) {
  const CompletionRequest request = parse_completion_request(body);
  MOEOPT_CHECK(!request.prompts.empty());
  MOEOPT_CHECK(request.prompts.size() * static_cast<std::size_t>(request.n) <=
               static_cast<std::size_t>(kMostChoices));
  for (const Prompt& prompt : request.prompts) {
    const auto* ids = std::get_if<std::vector<std::int32_t>>(&prompt);
    if (ids == nullptr) continue;
    MOEOPT_CHECK(!ids->empty());
    MOEOPT_CHECK(std::ranges::all_of(*ids, [](auto id) { return id >= 0; }));
  }
  check_generation(request);
}

void read_tokenize(const OrderedJson& body) {
  TokenizeRequest request;
  read_fields(body, tokenize_fields(), request);
  if (!request.messages.is_null()) check_messages(request.messages);
  check_tools(request.tools);
}

void read_detokenize(const OrderedJson& body) {
  DetokenizeRequest request;
  read_fields(body, detokenize_fields(), request);
  MOEOPT_CHECK(std::ranges::all_of(request.tokens, [](auto id) { return id >= 0; }));
}

void read_body(std::uint8_t choice, std::string_view text) {
  constexpr void (*kReaders[])(const OrderedJson&) = {read_chat, read_completion, read_tokenize,
                                                      read_detokenize};
  try {
    kReaders[choice % 4](parse_body(text));
  } catch (const ApiError& error) {
    MOEOPT_CHECK(error.status() == 400);
    const std::string body = dump(error.body());
    MOEOPT_CHECK(body.size() <= kMostErrorBytes);
    MOEOPT_CHECK(OrderedJson::parse(body)["error"]["message"].is_string());
  }
}

}  // namespace
}  // namespace moeopt::serve

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  moeopt::serve::read_body(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
