// From messages to the ids that the model continues.
// Invariant: no id of a special token comes out of what a client wrote, however it is spelt; the
// template's own come out as they should.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "serve/served_model.h"

namespace moeopt::serve {

struct ChatPrompt {
  std::string text;  // rendered
  std::vector<std::int32_t> ids;
};

struct ChatInputs {
  OrderedJson messages;
  OrderedJson tools;            // null: none
  OrderedJson template_kwargs;  // an object
  bool add_generation_prompt = true;
};

// ApiError(400) with what the template says of messages that it does not take, or when the model
// has no template.
ChatPrompt make_chat_prompt(ChatInputs inputs, const ServedModel& model);

// Marks the special tokens' spellings in texts of clients, so that encode_marked() takes them for
// plain text. Templates carry the marks through.
void mark_special(std::string& text, const Tokenizer& tokenizer);
std::vector<std::int32_t> encode_marked(std::string_view text, const Tokenizer& tokenizer);
std::string without_marks(std::string_view text);

}  // namespace moeopt::serve
