// The body of POST /v1/chat/completions: parsed, checked, plain.
#pragma once

#include <optional>
#include <string>

#include "serve/openai/generation_fields.h"

namespace moeopt::serve {

inline constexpr std::size_t kMostMessages = 4096;
inline constexpr std::size_t kMostTools = 128;

struct ResponseFormat {
  enum class Kind { kText, kJsonObject, kJsonSchema };
  Kind kind = Kind::kText;
  OrderedJson schema;  // of kJsonSchema
};

struct ToolChoice {
  enum class Kind { kAuto, kNone, kRequired, kNamed };
  Kind kind = Kind::kAuto;
  std::string name;  // of kNamed
};

struct ChatRequest : GenerationFields {
  OrderedJson messages;  // as the template takes them: every content one text
  OrderedJson tools;     // null: none
  std::optional<ToolChoice> tool_choice;
  ResponseFormat response_format;
  OrderedJson template_kwargs = OrderedJson::object();
  bool logprobs = false;
  std::optional<int> top_logprobs;
  bool add_generation_prompt = true;
  bool separate_reasoning = true;
};

const Fields<ChatRequest>& chat_fields();

// ApiError(400) names the field.
ChatRequest parse_chat_request(const OrderedJson& body);

// Checked messages, for /tokenize too.
OrderedJson read_messages(const OrderedJson& value, std::string_view path);
OrderedJson read_tools(const OrderedJson& value, std::string_view path);

}  // namespace moeopt::serve
