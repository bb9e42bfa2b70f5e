// /openapi.json: made of the tables that also check the requests, and of response_schemas.
#include "serve/openapi.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "serve/api_error.h"
#include "serve/endpoints/endpoints.h"
#include "serve/endpoints/response_schemas.h"
#include "serve/openai/chat_request.h"
#include "serve/openai/completion_request.h"
#include "serve/openai/tokenize_request.h"
#include "serve/page_files.h"

namespace moeopt::serve {
namespace {

OrderedJson content(std::string_view type, OrderedJson schema) {
  OrderedJson json;
  json[std::string(type)]["schema"] = std::move(schema);
  return json;
}

// Which schema a route's request body has; empty: none.
std::string_view body_schema(const Route& route) {
  if (route.path == "/v1/chat/completions") return "ChatCompletionRequest";
  if (route.path == "/v1/completions") return "CompletionRequest";
  if (route.path == "/tokenize") return "TokenizeRequest";
  if (route.path == "/detokenize") return "DetokenizeRequest";
  return {};
}

OrderedJson body_example(const Route& route) {
  if (route.path == "/v1/chat/completions") {
    OrderedJson message = {{"role", "user"}, {"content", "How many legs have 2 hens?"}};
    return {{"messages", OrderedJson::array({std::move(message)})}, {"max_tokens", 8}};
  }
  if (route.path == "/v1/completions") return {{"prompt", "Once upon a time"}, {"max_tokens", 8}};
  if (route.path == "/tokenize") return {{"prompt", "Once upon a time"}};
  return {{"tokens", {1, 2, 3}}};
}

// Which schema its 200 has, of those that answer JSON.
std::string_view answer_schema(const Route& route) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kNames = {{
      {"/v1/chat/completions", "ChatCompletion"},
      {"/v1/completions", "Completion"},
      {"/v1/models", "ModelList"},
      {"/v1/models/{model}", "Model"},
      {"/tokenize", "TokenizeResponse"},
      {"/detokenize", "DetokenizeResponse"},
      {"/health", "Health"},
      {"/ready", "Ready"},
      {"/version", "Version"},
      {"/plan", "Plan"},
      {"/v1/routing", "Routing"},
      {"/openapi.json", "OpenApi"},
  }};
  const auto found = std::ranges::find(kNames, route.path, &decltype(kNames)::value_type::first);
  const bool has_schema = found != kNames.end();
  MOEOPT_CHECK(has_schema);
  return found->second;
}

// As OpenAPI 3.2 describes event streams, and as tools read them in 3.1: the schema of one event.
OrderedJson event_schema(const Route& route) {
  OrderedJson json = {{"type", "string"}, {"contentMediaType", "application/json"}};
  json["contentSchema"]["oneOf"] = {schema_reference(fmt::format("{}Chunk", answer_schema(route))),
                                    schema_reference("Error")};
  OrderedJson data;
  data["anyOf"] = {std::move(json), {{"const", "[DONE]"}}};
  OrderedJson schema = {{"type", "object"},
                        {"description", "One event; the data of the last one is [DONE]."},
                        {"required", OrderedJson::array({"data"})}};
  schema["properties"]["data"] = std::move(data);
  return schema;
}

OrderedJson answers(const Route& route) {
  OrderedJson json;
  OrderedJson& ok = json["200"];
  ok["description"] = "The answer";
  const bool generates = route.path.ends_with("completions");
  if (route.path == "/metrics") {
    ok["content"] = content("text/plain", {{"type", "string"}});
  } else if (route.path == "/" || route.path == "/{file}") {
    for (const PageFile& file : page_files()) {
      if (route.path == "/" && file.name != "index.html") continue;
      const std::string_view type = file.content_type.substr(0, file.content_type.find(';'));
      ok["content"][std::string(type)]["schema"] = {{"type", "string"}};
    }
  } else {
    ok["content"] = content("application/json", schema_reference(answer_schema(route)));
  }
  if (generates) ok["content"]["text/event-stream"]["schema"] = event_schema(route);
  const auto error = [&json](const char* status, const char* description) {
    json[status]["description"] = description;
    json[status]["content"] = content("application/json", schema_reference("Error"));
  };
  if (route.method == "POST") {
    error("400", "The field at fault is named");
    error("413", "The body is too large");
    error("415", "The body is not JSON");
  }
  if (route.needs_key) error("401", "A key is needed and was not given");
  if (route.needs_model) error("404", "There is no such model");
  if (generates) {
    error("429", "Too many requests wait; Retry-After says when to come back");
    error("500", "The generation failed");
    error("504", "The request took too long");
  }
  if (route.needs_model) error("503", "Loading or shutting down");
  if (route.path == "/health" || route.path == "/ready") {
    json["503"]["description"] = "Not now";
    json["503"]["content"] = content("application/json", schema_reference(answer_schema(route)));
  }
  if (route.path == "/{file}") error("404", "There is no such file");
  return json;
}

OrderedJson operation(const Route& route) {
  OrderedJson json = {{"summary", route.summary}};
  const std::size_t brace = route.path.find('{');
  if (brace != std::string_view::npos) {
    const std::string name(route.path.substr(brace + 1, route.path.size() - brace - 2));
    json["parameters"] = OrderedJson::array();
    json["parameters"].push_back(
        {{"name", name}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}});
  }
  if (const auto schema = body_schema(route); !schema.empty()) {
    json["requestBody"]["required"] = true;
    json["requestBody"]["content"] = content("application/json", schema_reference(schema));
    json["requestBody"]["content"]["application/json"]["example"] = body_example(route);
  }
  json["responses"] = answers(route);
  if (!route.needs_key) json["security"] = OrderedJson::array();
  return json;
}

}  // namespace

OrderedJson openapi_document(std::string_view version) {
  OrderedJson json;
  json["openapi"] = "3.1.0";
  json["info"] = {{"title", "moeopt"},
                  {"version", version},
                  {"description",
                   "OpenAI's API for the model that is served, and what the server says of itself. "
                   "Unknown fields of a body are ignored; null is the same as absent. Fields may "
                   "be wrong together (stream_options without stream): 400 too. Lengths of texts "
                   "are of their UTF-8 bytes."}};
  json["paths"] = OrderedJson::object();
  for (const Route& route : route_table()) {
    std::string method(route.method);
    for (char& c : method) c = static_cast<char>(c - 'A' + 'a');
    json["paths"][std::string(route.path)][method] = operation(route);
  }
  OrderedJson& schemas = json["components"]["schemas"];
  schemas["ChatCompletionRequest"] = object_schema(chat_fields());
  schemas["CompletionRequest"] = object_schema(completion_fields());
  schemas["TokenizeRequest"] = object_schema(tokenize_fields());
  schemas["DetokenizeRequest"] = object_schema(detokenize_fields());
  schemas.update(response_schemas());
  json["components"]["securitySchemes"]["key"] = {{"type", "http"}, {"scheme", "bearer"}};
  json["security"] = OrderedJson::array();
  json["security"].push_back({{"key", OrderedJson::array()}});
  return json;
}

namespace endpoints {

Reply openapi(App& app, const HttpRequest&) {
  return json_response(openapi_document(app.options().version));
}

}  // namespace endpoints

}  // namespace moeopt::serve
