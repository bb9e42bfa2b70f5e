#include "serve/openai/chat_request.h"

#include <algorithm>
#include <array>

#include "base/strings.h"

namespace moeopt::serve {
namespace {

constexpr std::size_t kMostName = 256;
constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

// A text, or a list of parts of which only texts are understood.
std::string read_content(const OrderedJson& value, const std::string& path) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) refuse_field(path, "expected a string or a list of parts");
  std::string text;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", path, i);
    const OrderedJson& part = read_object(value[i], where);
    const auto type = part.find("type");
    if (type == part.end()) refuse_field(where + ".type", "is missing");
    const std::string& kind = read_string(*type, where + ".type", kMostName);
    if (kind != "text") {
      refuse_field(where + ".type", "\"{}\" is not supported, this model reads text",
                   printable(kind, 40));
    }
    const auto content = part.find("text");
    if (content == part.end()) refuse_field(where + ".text", "is missing");
    if (i > 0) text += '\n';
    text += read_string(*content, where + ".text", kMostText);
  }
  return text;
}

// Templates take a call's arguments as an object; OpenAI's clients send them as JSON text.
OrderedJson read_tool_calls(const OrderedJson& value, const std::string& path) {
  OrderedJson calls = OrderedJson::array();
  read_array(value, path, kMostTools);
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", path, i);
    const OrderedJson& given = read_object(value[i], where);
    const auto function = given.find("function");
    if (function == given.end()) refuse_field(where + ".function", "is missing");
    read_object(*function, where + ".function");
    const auto name = function->find("name");
    if (name == function->end()) refuse_field(where + ".function.name", "is missing");
    OrderedJson call = {{"type", "function"}};
    if (const auto id = given.find("id"); id != given.end() && !id->is_null()) {
      call["id"] = read_string(*id, where + ".id", kMostName);
    }
    call["function"]["name"] = read_string(*name, where + ".function.name", kMostName);
    OrderedJson arguments = OrderedJson::object();
    if (const auto sent = function->find("arguments"); sent != function->end()) {
      arguments = *sent;
      if (sent->is_string() && !sent->get_ref<const std::string&>().empty()) {
        try {
          arguments = parse_ordered_json(sent->get_ref<const std::string&>(),
                                         where + ".function.arguments");
        } catch (const Error&) {  // what a model wrote need not be JSON
          arguments = *sent;
        }
      }
    }
    call["function"]["arguments"] = std::move(arguments);
    calls.push_back(std::move(call));
  }
  return calls;
}

OrderedJson read_message(const OrderedJson& value, const std::string& path) {
  read_object(value, path);
  const auto member = [&value](const char* name) -> const OrderedJson* {
    const auto found = value.find(name);
    return found == value.end() || found->is_null() ? nullptr : &*found;
  };
  const OrderedJson* role = member("role");
  if (role == nullptr) refuse_field(path + ".role", "is missing");
  const std::string& name = read_string(*role, path + ".role", kMostName);
  if (std::ranges::find(kRoles, name) == kRoles.end()) {
    refuse_field(path + ".role", "\"{}\" is not system, developer, user, assistant or tool",
                 printable(name, 40));
  }
  OrderedJson message;
  message["role"] = name == "developer" ? "system" : name;
  const OrderedJson* calls = member("tool_calls");
  const OrderedJson* content = member("content");
  if (content == nullptr && (name != "assistant" || calls == nullptr)) {
    refuse_field(path + ".content", "is missing");
  }
  message["content"] =
      content != nullptr ? read_content(*content, path + ".content") : std::string();
  if (calls != nullptr) message["tool_calls"] = read_tool_calls(*calls, path + ".tool_calls");
  for (const char* text : {"name", "tool_call_id", "reasoning_content"}) {
    if (const OrderedJson* given = member(text)) {
      message[text] = read_string(*given, fmt::format("{}.{}", path, text), kMostText);
    }
  }
  return message;
}

void read_response_format(const OrderedJson& value, std::string_view path, ChatRequest& into) {
  read_object(value, path);
  const auto type = value.find("type");
  const std::string where = fmt::format("{}.type", path);
  if (type == value.end()) refuse_field(where, "is missing");
  const std::string& kind = read_string(*type, where, kMostName);
  if (kind == "text") return;
  if (kind == "json_object") {
    into.response_format.kind = ResponseFormat::Kind::kJsonObject;
    return;
  }
  if (kind != "json_schema") {
    refuse_field(where, "\"{}\" is not text, json_object or json_schema", printable(kind, 40));
  }
  const auto named = value.find("json_schema");
  const std::string at = fmt::format("{}.json_schema", path);
  if (named == value.end()) refuse_field(at, "is missing");
  read_object(*named, at);
  const auto schema = named->find("schema");
  if (schema == named->end()) refuse_field(at + ".schema", "is missing");
  into.response_format.kind = ResponseFormat::Kind::kJsonSchema;
  into.response_format.schema = read_object(*schema, at + ".schema");
}

void read_tool_choice(const OrderedJson& value, std::string_view path, ChatRequest& into) {
  into.tool_choice.emplace();
  if (value.is_string()) {
    const std::string& kind = value.get_ref<const std::string&>();
    if (kind == "auto") {
      into.tool_choice->kind = ToolChoice::Kind::kAuto;
    } else if (kind == "none") {
      into.tool_choice->kind = ToolChoice::Kind::kNone;
    } else if (kind == "required") {
      into.tool_choice->kind = ToolChoice::Kind::kRequired;
    } else {
      refuse_field(path, "\"{}\" is not auto, none or required", printable(kind, 40));
    }
    return;
  }
  if (!value.is_object()) refuse_field(path, "expected a string or an object");
  const auto function = value.find("function");
  const std::string where = fmt::format("{}.function", path);
  if (function == value.end()) refuse_field(where, "is missing");
  const auto name = read_object(*function, where).find("name");
  if (name == function->end()) refuse_field(where + ".name", "is missing");
  into.tool_choice->kind = ToolChoice::Kind::kNamed;
  into.tool_choice->name = read_string(*name, where + ".name", kMostName);
}

// {"function": {"name": ...}} and what else a caller puts beside it.
OrderedJson function_schema() {
  const OrderedJson name = {{"type", "string"}, {"maxLength", kMostName}};
  const OrderedJson function = {
      {"type", "object"}, {"required", {"name"}}, {"properties", {{"name", name}}}};
  return {{"type", "object"}, {"required", {"function"}}, {"properties", {{"function", function}}}};
}

OrderedJson tools_schema() {
  OrderedJson tool = function_schema();
  tool["properties"]["type"]["const"] = "function";
  return schema_of({{"type", "array"}, {"maxItems", kMostTools}, {"items", std::move(tool)}},
                   "Functions that the model may call, shown to it by the chat template.");
}

OrderedJson response_format_schema() {
  OrderedJson named = {{"type", "object"}, {"required", OrderedJson::array({"schema"})}};
  named["properties"]["schema"]["type"] = "object";
  OrderedJson with_schema = {{"type", "object"}, {"required", {"type", "json_schema"}}};
  with_schema["properties"]["type"]["const"] = "json_schema";
  with_schema["properties"]["json_schema"] = std::move(named);
  OrderedJson without = {{"type", "object"}, {"required", OrderedJson::array({"type"})}};
  without["properties"]["type"]["enum"] = {"text", "json_object"};
  return schema_of({{"oneOf", {std::move(without), std::move(with_schema)}}},
                   "Holds the output to a JSON object, or to JSON of a schema. What "
                   "max_tokens cuts (finish_reason length) is the beginning of one.");
}

OrderedJson messages_schema() {
  const OrderedJson text = {{"type", "string"}};
  const OrderedJson part = {
      {"type", "object"},
      {"required", {"type", "text"}},
      {"properties", {{"type", {{"type", "string"}, {"enum", {"text"}}}}, {"text", text}}}};
  OrderedJson message = {{"type", "object"}, {"required", {"role"}}};
  message["properties"]["role"] = {{"type", "string"}, {"enum", kRoles}};
  message["properties"]["content"] =
      or_null({{"oneOf", {text, {{"type", "array"}, {"items", part}}}}});
  OrderedJson call = function_schema();
  call["properties"]["id"] = or_null({{"type", "string"}, {"maxLength", kMostName}});
  message["properties"]["tool_calls"] =
      or_null({{"type", "array"}, {"maxItems", kMostTools}, {"items", std::move(call)}});
  for (const char* name : {"name", "tool_call_id", "reasoning_content"}) {
    message["properties"][name] = or_null(text);
  }
  // Only an assistant that called a tool may have said nothing.
  OrderedJson says = {{"required", OrderedJson::array({"content"})}};
  says["properties"]["content"]["type"] = {"string", "array"};
  OrderedJson calls = {{"required", OrderedJson::array({"tool_calls"})}};
  calls["properties"]["role"]["const"] = "assistant";
  calls["properties"]["tool_calls"]["type"] = "array";
  message["anyOf"] = {std::move(says), std::move(calls)};
  return schema_of({{"type", "array"},
                    {"minItems", 1},
                    {"maxItems", kMostMessages},
                    {"items", std::move(message)}},
                   "The conversation so far.");
}

Fields<ChatRequest> make_chat_fields() {
  Fields<ChatRequest> fields = generation_fields<ChatRequest>();
  const auto add = [&fields](Field<ChatRequest> field) { fields.push_back(std::move(field)); };
  add({"messages", messages_schema(),
       [](const OrderedJson& value, std::string_view path, ChatRequest& into) {
         into.messages = read_messages(value, path);
       },
       true});
  add({"tools", tools_schema(),
       [](const OrderedJson& value, std::string_view path, ChatRequest& into) {
         into.tools = read_tools(value, path);
       }});
  add({"tool_choice",
       schema_of(
           {{"oneOf",
             {{{"type", "string"}, {"enum", {"auto", "none", "required"}}}, function_schema()}}},
           "auto, none, required, or one function by name."),
       read_tool_choice});
  add({"response_format", response_format_schema(), read_response_format});
  add({"chat_template_kwargs",
       schema_of({{"type", "object"}}, "More variables for the chat template, as enable_thinking."),
       [](const OrderedJson& value, std::string_view path, ChatRequest& into) {
         into.template_kwargs = read_object(value, path);
       }});
  add(bool_field<ChatRequest>("logprobs", &ChatRequest::logprobs,
                              "Tell each token's log probability."));
  add(integer_field<ChatRequest>("top_logprobs", 0, kMaxLogprobs, &ChatRequest::top_logprobs,
                                 "And those of as many likeliest; needs logprobs."));
  add(bool_field<ChatRequest>("add_generation_prompt", &ChatRequest::add_generation_prompt,
                              "Open the assistant's turn."));
  add(bool_field<ChatRequest>("separate_reasoning", &ChatRequest::separate_reasoning,
                              "Split a thinking model's text into reasoning_content and content."));
  return fields;
}

}  // namespace

OrderedJson read_messages(const OrderedJson& value, std::string_view path) {
  read_array(value, path, kMostMessages);
  if (value.empty()) refuse_field(path, "has no message");
  OrderedJson messages = OrderedJson::array();
  for (std::size_t i = 0; i < value.size(); ++i) {
    messages.push_back(read_message(value[i], fmt::format("{}[{}]", path, i)));
  }
  return messages;
}

OrderedJson read_tools(const OrderedJson& value, std::string_view path) {
  read_array(value, path, kMostTools);
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", path, i);
    const OrderedJson& tool = read_object(value[i], where);
    if (tool.value("type", OrderedJson("function")) != "function") {
      refuse_field(where + ".type", "the only type is function");
    }
    const auto function = tool.find("function");
    if (function == tool.end()) refuse_field(where + ".function", "is missing");
    const auto name = read_object(*function, where + ".function").find("name");
    if (name == function->end()) refuse_field(where + ".function.name", "is missing");
    read_string(*name, where + ".function.name", kMostName);
  }
  return value.empty() ? OrderedJson() : value;
}

const Fields<ChatRequest>& chat_fields() {
  static const Fields<ChatRequest> fields = make_chat_fields();
  return fields;
}

ChatRequest parse_chat_request(const OrderedJson& body) {
  ChatRequest request;
  read_fields(body, chat_fields(), request);
  check_together(request);
  if (request.max_tokens == 0) refuse_field("max_tokens", "must be 1 or more");
  if (request.top_logprobs.value_or(0) > 0 && !request.logprobs) {
    refuse_field("top_logprobs", "needs logprobs to be true");
  }
  if (request.tool_choice && request.tool_choice->kind != ToolChoice::Kind::kNone &&
      request.tools.is_null()) {
    refuse_field("tool_choice", "needs tools");
  }
  if (request.tool_choice && request.tool_choice->kind == ToolChoice::Kind::kNamed) {
    const bool known = std::ranges::any_of(request.tools, [&](const OrderedJson& tool) {
      return tool["function"]["name"] == request.tool_choice->name;
    });
    if (!known) refuse_field("tool_choice.function.name", "is none of the tools");
  }
  return request;
}

}  // namespace moeopt::serve
