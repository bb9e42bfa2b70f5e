#include "serve/openai/chat_prompt.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/strings.h"
#include "serve/api_error.h"
#include "serve/openai/generation_fields.h"
#include "serve/openai/token_text.h"
#include "text/token_trie.h"

namespace moeopt::serve {
namespace {

// Noncharacters (U+FDD0, U+FDD1): no text means anything by them.
constexpr std::string_view kOpen = "\xEF\xB7\x90";
constexpr std::string_view kClose = "\xEF\xB7\x91";

// Marks special tokens' spellings in texts of clients, so that encode_marked() takes them for plain
// text. Templates carry the marks through.
class Marker {
 public:
  explicit Marker(const Tokenizer& tokenizer) {
    for (const std::int32_t id : tokenizer.special_ids()) {
      const std::string_view spelling = tokenizer.id_to_token(id);
      if (!spelling.empty()) spellings_.add(spelling, 0);
    }
  }

  // Every text of a JSON value, names of members included: templates print tools with them.
  void mark(OrderedJson& json) const {
    if (json.is_string()) {
      auto& text = json.get_ref<std::string&>();
      text = marked(std::move(text));
    } else if (json.is_array()) {
      for (auto& entry : json) mark(entry);
    } else if (json.is_object()) {
      OrderedJson::object_t members;
      for (auto& [name, value] : json.get_ref<OrderedJson::object_t&>()) {
        mark(value);
        members.emplace_back(marked(name), std::move(value));  // emplace() would search it
      }
      json = std::move(members);
    }
  }

 private:
  std::string marked(std::string text) const {
    for (const std::string_view mark : {kOpen, kClose}) {
      for (std::size_t at = 0; (at = text.find(mark, at)) != std::string::npos;) {
        text.replace(at, mark.size(), kReplacementText);  // as long as it
      }
    }
    auto found = spellings_.search(text, 0);
    if (!found) return text;
    std::string out;
    out.reserve(text.size() + text.size() / 2);
    std::size_t done = 0;
    for (; found; found = spellings_.search(text, done)) {
      out.append(text, done, found->begin - done);
      out += kOpen;
      out.append(text, found->begin, found->end - found->begin);
      out += kClose;
      done = found->end;
    }
    out.append(text, done);
    return out;
  }

  TokenTrie spellings_;
};

std::string without_marks(std::string_view text) {
  constexpr std::string_view kBegin = kOpen.substr(0, 2);  // kClose's too
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(kBegin), text.size());
    const std::string_view rest = text.substr(end);
    const bool is_mark = rest.starts_with(kOpen) || rest.starts_with(kClose);
    out += text.substr(0, is_mark ? end : end + kBegin.size());
    text.remove_prefix(std::min(text.size(), end + (is_mark ? kOpen : kBegin).size()));
  }
  return out;
}

// Nothing when there are more than `most_ids`.
std::optional<std::vector<std::int32_t>> encode_marked(std::string_view text,
                                                       const Tokenizer& tokenizer,
                                                       std::size_t most_ids) {
  std::vector<std::int32_t> ids;
  for (bool plain = false; !text.empty(); plain = !plain) {
    const std::size_t end = std::min(text.find(plain ? kClose : kOpen), text.size());
    if (end > 0) {
      const auto part = tokenizer.encode_at_most(most_ids - ids.size(), text.substr(0, end),
                                                 /*add_special_tokens=*/false,
                                                 /*parse_special=*/!plain);
      if (!part) return std::nullopt;
      ids.insert(ids.end(), part->begin(), part->end());
    }
    text.remove_prefix(std::min(text.size(), end + kOpen.size()));
  }
  return ids;
}

}  // namespace

ChatPrompt make_chat_prompt(ChatInputs inputs, const ServedModel& model) {
  if (model.chat_template == nullptr) {
    throw ApiError(400,
                   "the model has no chat template; use /v1/completions, or serve it with "
                   "--chat-template",
                   "messages", "no_chat_template");
  }
  const Marker marker(*model.tokenizer);
  marker.mark(inputs.messages);
  marker.mark(inputs.tools);
  OrderedJson variables = std::move(inputs.template_kwargs);
  marker.mark(variables);
  variables["messages"] = std::move(inputs.messages);
  if (!inputs.tools.is_null()) variables["tools"] = std::move(inputs.tools);
  variables["add_generation_prompt"] = inputs.add_generation_prompt;
  std::optional<std::vector<std::int32_t>> ids;
  std::string rendered;
  try {
    rendered = model.chat_template->render(variables);
    ids = encode_marked(rendered, *model.tokenizer, inputs.most_ids);
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
  if (!ids) refuse_long_prompt("messages", fmt::format("more than {}", inputs.most_ids), model);
  return {.text = without_marks(rendered), .ids = *std::move(ids)};
}

}  // namespace moeopt::serve
