// From messages to the ids that the model continues.
// Invariant: no id of a special token comes out of what a client wrote, however it is spelt; the
// template's own come out as they should.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
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
  std::size_t most_ids = SIZE_MAX;
};

// In time that grows as the text, and beyond `most_ids` with hardly more than rendering.
// ApiError(400) with what the template says of messages that it does not take, when the model has
// no template, and for a prompt of more than `most_ids`.
ChatPrompt make_chat_prompt(ChatInputs inputs, const ServedModel& model);

}  // namespace moeopt::serve
