#include "serve/openai/tokenize_request.h"

#include "serve/openai/chat_request.h"

namespace moeopt::serve {
namespace {

constexpr std::size_t kMostDecodedIds = std::size_t{1} << 20;

using T = TokenizeRequest;

const Field<ChatRequest>& chat_field(std::string_view name) {
  for (const Field<ChatRequest>& field : chat_fields()) {
    if (field.name == name) return field;
  }
  throw_error(ErrorCode::kInternal, "no field {}", name);
}

Fields<T> make_tokenize_fields() {
  const auto messages = [](const OrderedJson& value, std::string_view path, T& into) {
    into.messages = read_messages(value, path);
  };
  const auto tools = [](const OrderedJson& value, std::string_view path, T& into) {
    into.tools = read_tools(value, path);
  };
  const auto kwargs = [](const OrderedJson& value, std::string_view path, T& into) {
    into.template_kwargs = read_object(value, path);
  };
  return {
      string_field<T>("model", 1024, &T::model, "A name that /v1/models lists."),
      string_field<T>(
          "prompt", kMostText, &T::prompt,
          "The text; or give messages. A special token's spelling in the text becomes its id, "
          "as in /v1/completions; in messages it stays text."),
      {"messages", chat_field("messages").schema, messages},
      {"tools", chat_field("tools").schema, tools},
      {"chat_template_kwargs", chat_field("chat_template_kwargs").schema, kwargs},
      bool_field<T>("add_special_tokens", &T::add_special_tokens,
                    "With the ids that the tokenizer puts around a text."),
      bool_field<T>("add_generation_prompt", &T::add_generation_prompt,
                    "Open the assistant's turn after messages."),
      bool_field<T>("return_token_strs", &T::return_token_strs, "The tokens' spellings too."),
  };
}

Fields<DetokenizeRequest> make_detokenize_fields() {
  using D = DetokenizeRequest;
  const auto tokens = [](const OrderedJson& value, std::string_view path, D& into) {
    read_array(value, path, kMostDecodedIds);
    for (std::size_t i = 0; i < value.size(); ++i) {
      into.tokens.push_back(static_cast<std::int32_t>(
          read_integer(value[i], fmt::format("{}[{}]", path, i), 0, INT32_MAX)));
    }
  };
  return {
      string_field<D>("model", 1024, &D::model, "A name that /v1/models lists."),
      {"tokens",
       schema_of({{"type", "array"}, {"maxItems", kMostDecodedIds}, {"items", token_id_schema()}},
                 "Token ids."),
       tokens, true},
  };
}

}  // namespace

const Fields<TokenizeRequest>& tokenize_fields() {
  static const Fields<TokenizeRequest> fields = make_tokenize_fields();
  return fields;
}

const Fields<DetokenizeRequest>& detokenize_fields() {
  static const Fields<DetokenizeRequest> fields = make_detokenize_fields();
  return fields;
}

}  // namespace moeopt::serve
