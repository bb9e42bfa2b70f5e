#include "serve/openai/chat_prompt.h"

#include <algorithm>

#include "base/strings.h"
#include "serve/api_error.h"
#include "serve/openai/token_text.h"

namespace moeopt::serve {
namespace {

// Noncharacters (U+FDD0, U+FDD1): no text means anything by them.
constexpr std::string_view kOpen = "\xEF\xB7\x90";
constexpr std::string_view kClose = "\xEF\xB7\x91";

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
    text.replace(at, what.size(), with);
  }
}

// Longest first, so that no spelling hides in another one's rest.
std::vector<std::string> special_spellings(const Tokenizer& tokenizer) {
  std::vector<std::string> spellings;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) spellings.emplace_back(tokenizer.id_to_token(id));
  }
  std::ranges::sort(spellings, std::greater<>(), &std::string::size);
  return spellings;
}

void mark_all(OrderedJson& json, const std::vector<std::string>& spellings) {
  if (json.is_string()) {
    auto& text = json.get_ref<std::string&>();
    replace_all(text, kOpen, kReplacementText);
    replace_all(text, kClose, kReplacementText);
    for (std::size_t at = 0; at < text.size();) {
      const auto found = std::ranges::find_if(spellings, [&](const std::string& spelling) {
        return std::string_view(text).substr(at).starts_with(spelling);
      });
      if (found == spellings.end()) {
        ++at;
        continue;
      }
      text.insert(at + found->size(), kClose);
      text.insert(at, kOpen);
      at += found->size() + kOpen.size() + kClose.size();
    }
    return;
  }
  if (json.is_object() || json.is_array()) {
    for (auto& entry : json) mark_all(entry, spellings);
  }
}

}  // namespace

void mark_special(std::string& text, const Tokenizer& tokenizer) {
  OrderedJson json = std::move(text);
  mark_all(json, special_spellings(tokenizer));
  text = json.get<std::string>();
}

std::string without_marks(std::string_view text) {
  std::string out(text);
  replace_all(out, kOpen, "");
  replace_all(out, kClose, "");
  return out;
}

std::vector<std::int32_t> encode_marked(std::string_view text, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> ids;
  bool plain = false;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(plain ? kClose : kOpen), text.size());
    const auto part = tokenizer.encode(text.substr(0, end), /*add_special_tokens=*/false,
                                       /*parse_special=*/!plain);
    ids.insert(ids.end(), part.begin(), part.end());
    text.remove_prefix(std::min(text.size(), end + kOpen.size()));
    plain = !plain;
  }
  return ids;
}

ChatPrompt make_chat_prompt(ChatInputs inputs, const ServedModel& model) {
  if (model.chat_template == nullptr) {
    throw ApiError(400,
                   "the model has no chat template; use /v1/completions, or serve it with "
                   "--chat-template",
                   "messages", "no_chat_template");
  }
  const std::vector<std::string> spellings = special_spellings(*model.tokenizer);
  mark_all(inputs.messages, spellings);
  mark_all(inputs.tools, spellings);
  OrderedJson variables = std::move(inputs.template_kwargs);
  mark_all(variables, spellings);
  variables["messages"] = std::move(inputs.messages);
  if (!inputs.tools.is_null()) variables["tools"] = std::move(inputs.tools);
  variables["add_generation_prompt"] = inputs.add_generation_prompt;
  ChatPrompt prompt;
  try {
    const std::string rendered = model.chat_template->render(variables);
    prompt.ids = encode_marked(rendered, *model.tokenizer);
    prompt.text = without_marks(rendered);
  } catch (const Error& error) {
    // The message opens with the template's path on this machine, which is nobody's business.
    std::string_view why = error.what();
    if (const auto line = why.rfind(".jinja:"); line != std::string_view::npos) {
      why.remove_prefix(line + 1);
    } else if (const auto slash = why.rfind('/', why.find(':')); slash != std::string_view::npos) {
      why.remove_prefix(slash + 1);
    }
    throw ApiError(400,
                   fmt::format("the chat template refuses these messages: {}", printable(why, 400)),
                   "messages", "template_error");
  }
  return prompt;
}

}  // namespace moeopt::serve
