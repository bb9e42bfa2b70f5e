// What shape a chat's output has: held to by a grammar, read back by a parser.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "serve/openai/chat_prompt.h"
#include "serve/openai/chat_request.h"
#include "serve/served_model.h"
#include "text/grammar/json_grammar.h"
#include "text/parse/output_parser.h"

namespace moeopt::serve {

struct OutputFormat {
  std::shared_ptr<const JsonGrammar> grammar;  // null: free text
  // The grammar begins after this id, </think>: the prompt leaves reasoning open.
  std::optional<std::int32_t> reasoning_end;
  OutputParser::Options parser;
};

// Of this request with the prompt that was made of it. ApiError(400) names what the model or the
// grammar cannot do.
OutputFormat output_format(const ChatRequest& request, const ChatPrompt& prompt,
                           const ServedModel& model);

// Whether the tools go into the prompt.
bool shows_tools(const ChatRequest& request);

// Puts the grammar and what follows from it into the engine's request.
void constrain(const OutputFormat& format, const ServedModel& model, Request& request);

}  // namespace moeopt::serve
