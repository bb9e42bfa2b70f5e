// Chat templates: from a list of messages to the text a model was trained on.
// The language is Jinja as Transformers runs it (sandboxed and immutable, trim_blocks,
// lstrip_blocks, loop controls, its `tojson`, `raise_exception`, `strftime_now` and
// {% generation %}): what is in the language here renders to the same bytes there. What is left out
// (include, import, block, autoescape, integers beyond 64 bits, some filters) is refused by name.
// Invariant: a template is data from strangers. Parsing and rendering end within RenderLimits, and
// nothing but text comes out.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/limits.h"

namespace moeopt {

namespace jinja {
struct Body;
}

class ChatTemplate {
 public:
  // `where` names the template in every message. Throws Error(kInvalidData), "where:line: message".
  static ChatTemplate parse(std::string_view source, std::string_view where);

  // `inputs` is an object of the template's variables: messages, tools, add_generation_prompt,
  // bos_token, whatever else the caller wants to pass. Throws Error(kInvalidData) with the line;
  // the message of the template's own raise_exception is passed on. Thread-safe.
  std::string render(const nlohmann::ordered_json& inputs, const RenderLimits& limits = {}) const;

  const std::string& source() const { return *source_; }

 private:
  ChatTemplate(std::string source, std::string where, std::shared_ptr<const jinja::Body> body);

  std::shared_ptr<const std::string> source_;
  std::string where_;
  std::shared_ptr<const jinja::Body> body_;
};

// The template of a model folder with the special tokens it may name.
struct LoadedChatTemplate {
  ChatTemplate standard;
  std::optional<ChatTemplate> tool_use;  // taken instead when `tools` is given
  nlohmann::ordered_json special_tokens = nlohmann::ordered_json::object();  // "bos_token": "<s>"

  // As ChatTemplate::render, with `tools` and `documents` null and the special tokens set unless
  // `inputs` say otherwise.
  std::string render(const nlohmann::ordered_json& inputs, const RenderLimits& limits = {}) const;
};

// Reads chat_template.jinja, else tokenizer_config.json's "chat_template" (a text, or a list of
// {name, template} with a "default" and maybe a "tool_use"). Nothing when the folder has neither.
// Throws Error(kInvalidData) naming the file and field.
std::optional<LoadedChatTemplate> load_chat_template(const std::filesystem::path& folder);

}  // namespace moeopt
