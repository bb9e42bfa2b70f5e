#include "serve/endpoints/response_schemas.h"

#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_snapshot.h"
#include "serve/openai/field.h"

namespace moeopt::serve {
namespace {

struct Member {
  const char* name;
  OrderedJson schema;
  bool optional = false;
};

OrderedJson closed(std::vector<Member> members) {
  OrderedJson schema = {{"type", "object"}};
  schema["properties"] = OrderedJson::object();
  schema["required"] = OrderedJson::array();
  for (Member& member : members) {
    schema["properties"][member.name] = std::move(member.schema);
    if (!member.optional) schema["required"].push_back(member.name);
  }
  schema["additionalProperties"] = false;
  return schema;
}

OrderedJson of_type(const char* type) {
  OrderedJson schema;
  schema["type"] = type;
  return schema;
}

OrderedJson text() {
  return of_type("string");
}

OrderedJson count() {
  OrderedJson schema = of_type("integer");
  schema["minimum"] = 0;
  return schema;
}

OrderedJson number() {
  return of_type("number");
}

OrderedJson boolean() {
  return of_type("boolean");
}

OrderedJson only(const char* value) {
  OrderedJson schema;
  schema["const"] = value;
  return schema;
}

OrderedJson one_of(const std::vector<std::string_view>& values) {
  OrderedJson schema = of_type("string");
  schema["enum"] = values;
  return schema;
}

OrderedJson list(OrderedJson items) {
  OrderedJson schema = of_type("array");
  schema["items"] = std::move(items);
  return schema;
}

// An object whose members are not ours to name.
OrderedJson map_of(OrderedJson values) {
  OrderedJson schema = of_type("object");
  schema["additionalProperties"] = std::move(values);
  return schema;
}

OrderedJson or_nothing(OrderedJson schema) {
  return {{"anyOf", OrderedJson::array({std::move(schema), of_type("null")})}};
}

OrderedJson logprob() {
  OrderedJson schema = number();
  schema["maximum"] = 0;
  return schema;
}

OrderedJson chat_logprobs() {
  OrderedJson byte = count();
  byte["maximum"] = 255;
  std::vector<Member> token = {
      {"token", text()}, {"logprob", logprob()}, {"bytes", list(std::move(byte))}};
  OrderedJson top = closed(token);
  token.push_back({"top_logprobs", list(std::move(top))});
  return or_nothing(closed({{"content", list(closed(std::move(token)))}}));
}

OrderedJson completion_logprobs() {
  return or_nothing(closed({{"tokens", list(text())},
                            {"token_logprobs", list(or_nothing(logprob()))},
                            {"top_logprobs", list(or_nothing(map_of(logprob())))},
                            {"text_offset", list(count())}}));
}

OrderedJson usage() {
  return closed({{"prompt_tokens", count()},
                 {"completion_tokens", count()},
                 {"total_tokens", count()},
                 {"prompt_tokens_details", closed({{"cached_tokens", count()}})},
                 {"completion_tokens_details", closed({{"reasoning_tokens", count()}}), true}});
}

// What answers and chunks of both endpoints begin with.
std::vector<Member> generation_head(const char* object) {
  return {{"id", text()}, {"object", only(object)}, {"created", count()}, {"model", text()}};
}

OrderedJson chat_completion() {
  OrderedJson call = closed({{"id", text()},
                             {"type", only("function")},
                             {"function", closed({{"name", text()}, {"arguments", text()}})}});
  OrderedJson message = closed({{"role", only("assistant")},
                                {"content", or_null(text())},
                                {"reasoning_content", text(), true},
                                {"tool_calls", list(std::move(call)), true}});
  std::vector<Member> members = generation_head("chat.completion");
  members.push_back(
      {"choices", list(closed({{"index", count()},
                               {"message", std::move(message)},
                               {"logprobs", chat_logprobs()},
                               {"finish_reason", one_of({"stop", "length", "tool_calls"})}}))});
  members.push_back({"usage", schema_reference("Usage")});
  return closed(std::move(members));
}

OrderedJson chat_completion_chunk() {
  OrderedJson call =
      closed({{"index", count()},
              {"id", text(), true},
              {"type", only("function"), true},
              {"function", closed({{"name", text(), true}, {"arguments", text()}})}});
  OrderedJson delta = closed({{"role", only("assistant"), true},
                              {"content", text(), true},
                              {"reasoning_content", text(), true},
                              {"tool_calls", list(std::move(call)), true}});
  std::vector<Member> members = generation_head("chat.completion.chunk");
  members.push_back(
      {"choices",
       list(closed({{"index", count()},
                    {"delta", std::move(delta)},
                    {"logprobs", chat_logprobs()},
                    {"finish_reason", or_null(one_of({"stop", "length", "tool_calls"}))}}))});
  members.push_back({"usage", or_nothing(schema_reference("Usage")), true});
  return closed(std::move(members));
}

OrderedJson completion(bool chunk) {
  const OrderedJson finish = one_of({"stop", "length"});
  std::vector<Member> members = generation_head("text_completion");
  members.push_back(
      {"choices", list(closed({{"index", count()},
                               {"text", text()},
                               {"logprobs", completion_logprobs()},
                               {"finish_reason", chunk ? or_null(finish) : finish}}))});
  members.push_back(
      {"usage", chunk ? or_nothing(schema_reference("Usage")) : schema_reference("Usage"), chunk});
  return closed(std::move(members));
}

OrderedJson model() {
  return closed({{"id", text()},
                 {"object", only("model")},
                 {"created", count()},
                 {"owned_by", only("moeopt")},
                 {"root", text()},
                 {"max_model_len", count()}});
}

OrderedJson tokenize() {
  return closed({{"count", count()},
                 {"max_model_len", count()},
                 {"tokens", list(token_id_schema())},
                 {"token_strs", or_nothing(list(text()))}});
}

OrderedJson optimisation() {
  return closed({{"name", text()},
                 {"asked", one_of({"off", "prefer", "require"})},
                 {"origin", text()},
                 {"state", one_of({"off", "planned", "declined", "applied"})},
                 {"reason", text()},
                 {"layers", count()},
                 {"launches", count()},
                 {"measured_gain", or_null(number())}});
}

OrderedJson engine() {
  std::vector<std::string_view> states;
  for (const ServiceState state :
       {ServiceState::kServing, ServiceState::kFailing, ServiceState::kStuck,
        ServiceState::kDraining, ServiceState::kStopped}) {
    states.push_back(service_state_name(state));
  }
  return closed(
      {{"state", one_of(states)},
       {"running", count()},
       {"waiting", count()},
       {"max_running", count()},
       {"steps", count()},
       {"failed_steps", count()},
       {"preemptions", count()},
       {"silent_for_ms", count()},
       {"last_failure", or_null(text())},
       {"kv_blocks",
        closed({{"free", count()}, {"live", count()}, {"cached", count()}, {"total", count()}})},
       {"backend", closed({{"steps", count()},
                           {"tokens", count()},
                           {"moe_layer_launches", count()},
                           {"expert_rows", count()}})}});
}

// While the model loads there is nothing to say of it.
OrderedJson health() {
  const auto members = [](const std::vector<std::string_view>& status) -> std::vector<Member> {
    return {{"status", one_of(status)}, {"version", text()}, {"uptime_s", number()}};
  };
  std::vector<Member> loaded = members({"ok", "draining", "unhealthy"});
  loaded.push_back({"model", text()});
  loaded.push_back({"architecture", text()});
  loaded.push_back({"backend", text()});
  loaded.push_back({"max_model_len", count()});
  loaded.push_back({"engine", engine()});
  loaded.push_back({"optimisations", list(schema_reference("Optimisation"))});
  return {{"oneOf", OrderedJson::array(
                        {closed(std::move(loaded)), closed(members({"loading", "draining"}))})}};
}

OrderedJson ready() {
  OrderedJson share = number();
  share["minimum"] = 0;
  share["maximum"] = 1;
  OrderedJson loading =
      closed({{"status", only("loading")}, {"doing", text()}, {"progress", std::move(share)}});
  return {{"oneOf",
           OrderedJson::array({closed({{"status", one_of({"ready", "draining", "unhealthy"})}}),
                               std::move(loading)})}};
}

OrderedJson plan() {
  OrderedJson buffer = closed({{"name", text()},
                               {"kind", text()},
                               {"bytes", count()},
                               {"transform", text()},
                               {"class", text(), true},
                               {"sources", list(text()), true}});
  OrderedJson rank = closed({{"rank", count()},
                             {"weights", map_of(count())},
                             {"weight_bytes", count()},
                             {"kv_bytes", count()},
                             {"workspace_bytes", count()},
                             {"communication_bytes", count()},
                             {"margin_bytes", count()},
                             {"total_bytes", count()}});
  OrderedJson setting = closed({{"value", text()}, {"origin", text()}, {"planned", text(), true}});
  return closed(
      {{"model", closed({{"name", text()},
                         {"architecture", text()},
                         {"layers", count()},
                         {"runs", boolean()}})},
       {"hardware", closed({{"name", text()},
                            {"label", text()},
                            {"devices", count()},
                            {"memory_bytes", count()}})},
       {"estimated", boolean()},
       {"ranks", count()},
       {"budget_bytes", count()},
       {"limits", closed({{"max_model_len", count()},
                          {"max_sequences", count()},
                          {"max_step_tokens", count()},
                          {"max_logit_rows", count()}})},
       {"kv", closed({{"dtype", text()},
                      {"block_tokens", count()},
                      {"blocks", count()},
                      {"bytes_per_token", count()}})},
       {"largest_context", count()},
       {"largest_batch", count()},
       {"per_rank", list(std::move(rank))},
       {"buffers", list(std::move(buffer))},
       {"optimisations", list(schema_reference("Optimisation"))},
       {"settings", map_of(std::move(setting))},
       {"notes", list(closed({{"kind", one_of({"warning", "info"})}, {"text", text()}}))}});
}

OrderedJson routing() {
  OrderedJson log = closed({{"state", one_of({"recording", "failed"})},
                            {"error", or_null(text())},
                            {"requests", count()},
                            {"tokens", count()},
                            {"replayed_tokens", count()},
                            {"cached_tokens", count()},
                            {"dropped_requests", count()},
                            {"dropped_tokens", count()},
                            {"unsampled_requests", count()},
                            {"bytes", count()},
                            {"parts", count()}});
  const OrderedJson rows = list(list(count()));
  return closed({{"layers", list(count())},
                 {"total", rows},
                 {"window", rows},
                 {"window_s", count()},
                 {"rows_total", count()},
                 {"rows_window", count()},
                 {"steps", count()},
                 {"log", or_nothing(std::move(log))}});
}

// This document's own; its insides are the OpenAPI specification's.
OrderedJson document() {
  OrderedJson schema = of_type("object");
  schema["properties"]["openapi"] = only("3.1.0");
  schema["required"] = {"openapi", "info", "paths", "components"};
  return schema;
}

OrderedJson error() {
  return closed({{"error", closed({{"message", text()},
                                   {"type", text()},
                                   {"param", or_null(text())},
                                   {"code", or_null(text())}})}});
}

}  // namespace

OrderedJson schema_reference(std::string_view name) {
  return {{"$ref", fmt::format("#/components/schemas/{}", name)}};
}

OrderedJson response_schemas() {
  OrderedJson schemas;
  schemas["ChatCompletion"] = chat_completion();
  schemas["ChatCompletionChunk"] = chat_completion_chunk();
  schemas["Completion"] = completion(false);
  schemas["CompletionChunk"] = completion(true);
  schemas["Usage"] = usage();
  schemas["Model"] = model();
  schemas["ModelList"] =
      closed({{"object", only("list")}, {"data", list(schema_reference("Model"))}});
  schemas["TokenizeResponse"] = tokenize();
  schemas["DetokenizeResponse"] = closed({{"prompt", text()}});
  schemas["Health"] = health();
  schemas["Optimisation"] = optimisation();
  schemas["Ready"] = ready();
  schemas["Version"] = closed({{"version", text()}, {"commit", text()}, {"build", text()}});
  schemas["Plan"] = plan();
  schemas["Routing"] = routing();
  schemas["OpenApi"] = document();
  schemas["Error"] = error();
  return schemas;
}

}  // namespace moeopt::serve
