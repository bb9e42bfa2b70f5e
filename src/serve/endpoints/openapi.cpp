// /openapi.json: made of the tables that also check the requests.
#include "serve/openapi.h"

#include "serve/api_error.h"
#include "serve/endpoints/endpoints.h"
#include "serve/openai/chat_request.h"
#include "serve/openai/completion_request.h"
#include "serve/openai/tokenize_request.h"

namespace moeopt::serve {
namespace {

OrderedJson reference(std::string_view name) {
  return {{"$ref", fmt::format("#/components/schemas/{}", name)}};
}

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

OrderedJson error_schema() {
  const OrderedJson text = {{"type", "string"}};
  const OrderedJson maybe = {{"type", {"string", "null"}}};
  OrderedJson error = {{"type", "object"}, {"required", {"message", "type", "param", "code"}}};
  error["properties"] = {{"message", text}, {"type", text}, {"param", maybe}, {"code", maybe}};
  OrderedJson schema = {{"type", "object"}, {"required", OrderedJson::array({"error"})}};
  schema["properties"]["error"] = std::move(error);
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
    ok["content"] = content("text/html", {{"type", "string"}});
  } else {
    ok["content"] = content("application/json", {{"type", "object"}});
  }
  if (generates) ok["content"]["text/event-stream"] = OrderedJson::object();
  const auto error = [&json](const char* status, const char* description) {
    json[status]["description"] = description;
    json[status]["content"] = content("application/json", reference("Error"));
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
    json["503"]["content"] = content("application/json", {{"type", "object"}});
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
    json["requestBody"]["content"] = content("application/json", reference(schema));
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
  schemas["Error"] = error_schema();
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
