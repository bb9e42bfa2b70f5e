#include "serve/openai/output_format.h"

#include <algorithm>
#include <iterator>

#include "text/grammar/delayed_constraint.h"

namespace moeopt::serve {
namespace {

using Choice = ToolChoice::Kind;

Choice tool_choice(const ChatRequest& request) {
  if (request.tools.is_null()) return Choice::kNone;
  return request.tool_choice ? request.tool_choice->kind : Choice::kAuto;
}

const std::string& template_source(const ChatRequest& request, const ServedModel& model) {
  const LoadedChatTemplate& loaded = *model.chat_template;
  const bool with_tools = loaded.tool_use.has_value() && shows_tools(request);
  return (with_tools ? *loaded.tool_use : loaded.standard).source();
}

// {"name": ..., "arguments": ...} of one of the tools that may be called.
OrderedJson call_schema(const ChatRequest& request) {
  OrderedJson calls = OrderedJson::array();
  for (const OrderedJson& tool : request.tools) {
    const OrderedJson& function = tool["function"];
    if (tool_choice(request) == Choice::kNamed && function["name"] != request.tool_choice->name) {
      continue;
    }
    OrderedJson arguments = {{"type", "object"}};
    if (function.contains("parameters") && function["parameters"].is_object()) {
      arguments = function["parameters"];
    }
    OrderedJson call = {{"type", "object"}, {"additionalProperties", false}};
    call["properties"]["name"]["const"] = function["name"];
    call["properties"]["arguments"] = std::move(arguments);
    call["required"] = OrderedJson::array({"name", "arguments"});
    calls.push_back(std::move(call));
  }
  if (calls.size() == 1) return calls.front();
  OrderedJson schema;
  schema["anyOf"] = std::move(calls);
  return schema;
}

std::shared_ptr<const JsonGrammar> compile(const OrderedJson& schema, const ServedModel& model,
                                           const char* param) {
  if (model.stop_ids.empty()) refuse_field(param, "the model has no end token to end JSON with");
  try {
    return model.grammars->get(schema, *model.tokenizer, model.stop_ids);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidData && error.code() != ErrorCode::kUnsupported) throw;
    throw ApiError(400, fmt::format("{}: {}", param, error.what()), param, "invalid_schema");
  }
}

// Ids that both the tokenizer and the model have.
std::int32_t n_ids(const ServedModel& model) {
  return static_cast<std::int32_t>(
      std::min<std::int64_t>(model.tokenizer->vocab_size(), model.vocab));
}

std::int32_t reasoning_end(const ServedModel& model, const char* param) {
  const auto id = model.tokenizer->token_to_id("</think>");
  if (!id || *id >= n_ids(model)) {
    refuse_field(param,
                 "the prompt leaves reasoning open, and </think>, after which JSON would begin, is "
                 "no token of the model; close it with chat_template_kwargs");
  }
  return *id;
}

std::unique_ptr<TokenConstraint> start(const OutputFormat& format, const ServedModel& model) {
  std::unique_ptr<TokenConstraint> constraint = format.grammar->start();
  if (!format.reasoning_end) return constraint;
  std::vector<std::int32_t> end_ids;
  std::ranges::copy_if(model.stop_ids, std::back_inserter(end_ids),
                       [&](std::int32_t id) { return id >= 0 && id < n_ids(model); });
  return constrained_after(*format.reasoning_end, n_ids(model), end_ids, std::move(constraint));
}

}  // namespace

bool shows_tools(const ChatRequest& request) {
  return tool_choice(request) != Choice::kNone;
}

OutputFormat output_format(const ChatRequest& request, const ChatPrompt& prompt,
                           const ServedModel& model) {
  OutputFormat format;
  const Choice choice = tool_choice(request);
  const bool is_forced = choice == Choice::kRequired || choice == Choice::kNamed;
  const ResponseFormat::Kind kind = request.response_format.kind;
  if (is_forced && kind != ResponseFormat::Kind::kText) {
    refuse_field("response_format", "does not go with a forced tool_choice");
  }
  if (is_forced) {
    format.grammar = compile(call_schema(request), model, "tools");
    format.parser.tool_calls = ToolCallFormat::kHermes;
    format.parser.bare_call = true;
  } else if (kind != ResponseFormat::Kind::kText) {
    const bool any = kind == ResponseFormat::Kind::kJsonObject;
    format.grammar = compile(any ? OrderedJson() : request.response_format.schema, model,
                             any ? "response_format" : "response_format.json_schema.schema");
  }
  const std::string& source = template_source(request, model);
  const bool knows_reasoning = template_knows_reasoning(source);
  const bool open = knows_reasoning && ends_in_open_reasoning(prompt.text);
  format.parser.reasoning = request.separate_reasoning && knows_reasoning;
  format.parser.reasoning_open = format.parser.reasoning && open;
  if (format.grammar) {
    if (request.min_tokens.value_or(0) > 0) {
      refuse_field("min_tokens", "does not go with an output that ends when its JSON does");
    }
    if (open) format.reasoning_end = reasoning_end(model, is_forced ? "tools" : "response_format");
    // JSON from its first byte has no reasoning to split; a call that follows some always is split.
    format.parser.reasoning = open && (is_forced || request.separate_reasoning);
    format.parser.reasoning_open = format.parser.reasoning;
    return format;
  }
  if (choice == Choice::kAuto) {
    format.parser.tool_calls = tool_call_format(source);
    if (!format.parser.tool_calls) {
      refuse_field("tools",
                   "the model's chat template tells it of no tools in a way that is read "
                   "back here; tool_choice \"required\" works");
    }
  }
  return format;
}

void constrain(const OutputFormat& format, const ServedModel& model, Request& request) {
  if (format.grammar) {
    for (int i = 0; i < request.n; ++i) request.constraints.push_back(start(format, model));
    request.ignore_eos = false;  // the end of the JSON is the end
  }
  // DeepSeek writes calls with special tokens, which the parser must see.
  if (format.parser.tool_calls == ToolCallFormat::kDeepSeek) request.skip_special = false;
}

}  // namespace moeopt::serve
