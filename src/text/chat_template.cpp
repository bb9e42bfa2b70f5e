#include "text/chat_template.h"

#include <array>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/parser.h"

namespace moeopt {
namespace {

constexpr std::array kSpecialTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

// Writes the tokens that `config` has and `tokens` has not: a text, or an object with "content".
void add_special_tokens(const Json& config, nlohmann::ordered_json& tokens) {
  for (const char* name : kSpecialTokens) {
    if (tokens.contains(name) || !config.is_object()) continue;
    const auto found = config.find(name);
    if (found == config.end()) continue;
    const Json& token =
        found->is_object() && found->contains("content") ? (*found)["content"] : *found;
    if (token.is_string()) tokens[name] = token.get<std::string>();
  }
}

struct Sources {
  std::optional<ChatTemplate> standard;
  std::optional<ChatTemplate> tool_use;
};

// tokenizer_config.json's "chat_template".
Sources parse_field(const Json& field, const std::string& where) {
  Sources sources;
  if (field.is_string()) {
    sources.standard = ChatTemplate::parse(field.get_ref<const std::string&>(), where);
    return sources;
  }
  if (!field.is_array()) {
    throw_error(ErrorCode::kInvalidData, "{}: neither a text nor a list of templates", where);
  }
  for (const Json& entry : field) {
    const bool well = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                      entry.contains("template") && entry["template"].is_string();
    if (!well) {
      throw_error(ErrorCode::kInvalidData, "{}: an entry without the texts name and template",
                  where);
    }
    const std::string& name = entry["name"].get_ref<const std::string&>();
    const std::string& source = entry["template"].get_ref<const std::string&>();
    if (name == "default") {
      sources.standard = ChatTemplate::parse(source, where + "[default]");
    } else if (name == "tool_use") {
      sources.tool_use = ChatTemplate::parse(source, where + "[tool_use]");
    }
  }
  if (!sources.standard) {
    throw_error(ErrorCode::kInvalidData, "{}: no template is named \"default\"", where);
  }
  return sources;
}

std::optional<Json> read_json_if_there(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  return parse_json_file(file);
}

ChatTemplate read_template(const std::filesystem::path& file) {
  return ChatTemplate::parse(read_file(file, jinja::kMaxTemplateBytes), file.string());
}

}  // namespace

ChatTemplate::ChatTemplate(std::string source, std::string where,
                           std::shared_ptr<const jinja::Body> body)
    : source_(std::make_shared<const std::string>(std::move(source))),
      where_(std::move(where)),
      body_(std::move(body)) {}

ChatTemplate ChatTemplate::parse(std::string_view source, std::string_view where) {
  auto body = std::make_shared<const jinja::Body>(jinja::parse_template(source, where));
  return {std::string(source), std::string(where), std::move(body)};
}

std::string ChatTemplate::render(const nlohmann::ordered_json& inputs,
                                 const RenderLimits& limits) const {
  jinja::Runtime runtime(where_, limits);
  if (!inputs.is_object()) runtime.fail("the inputs of a template are an object");
  const jinja::Value variables = jinja::from_json(runtime, inputs);
  return jinja::Evaluator(runtime, variables).render(*body_);
}

std::string LoadedChatTemplate::render(const nlohmann::ordered_json& inputs,
                                       const RenderLimits& limits) const {
  nlohmann::ordered_json all = inputs;
  const auto add = [&](const std::string& name, const nlohmann::ordered_json& value) {
    if (!all.contains(name)) all[name] = value;
  };
  add("tools", nullptr);
  add("documents", nullptr);
  for (const auto& [name, token] : special_tokens.items()) add(name, token);
  const bool with_tools = tool_use.has_value() && !all["tools"].is_null();
  return (with_tools ? *tool_use : standard).render(all, limits);
}

std::optional<LoadedChatTemplate> load_chat_template(const std::filesystem::path& folder) {
  const auto config_file = folder / "tokenizer_config.json";
  const std::optional<Json> config = read_json_if_there(config_file);
  Sources sources;
  if (const auto file = folder / "chat_template.jinja"; std::filesystem::exists(file)) {
    sources.standard = read_template(file);
    const auto tool_file = folder / "additional_chat_templates" / "tool_use.jinja";
    if (std::filesystem::exists(tool_file)) sources.tool_use = read_template(tool_file);
  } else if (config && config->is_object() && config->contains("chat_template") &&
             !(*config)["chat_template"].is_null()) {
    sources = parse_field((*config)["chat_template"], config_file.string() + ": chat_template");
  }
  if (!sources.standard) return std::nullopt;
  LoadedChatTemplate loaded{*std::move(sources.standard), std::move(sources.tool_use)};
  if (config) add_special_tokens(*config, loaded.special_tokens);
  if (const auto map = read_json_if_there(folder / "special_tokens_map.json")) {
    add_special_tokens(*map, loaded.special_tokens);
  }
  return loaded;
}

}  // namespace moeopt
