// One event of an OpenAI answer stream, read for what the benchmark counts.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace moeopt::bench {

struct Usage {
  int prompt_tokens = 0;
  int cached_tokens = 0;  // of the prompt, from the server's prefix cache
  int output_tokens = 0;
};

struct StreamEvent {
  bool has_text = false;  // text, content, reasoning or a piece of a tool call that is not empty
  std::string finish_reason;
  std::optional<Usage> usage;
  std::optional<std::string> error;  // the message of an error that the server put into the stream
};

// `data` is the JSON of a chunk of /v1/completions or /v1/chat/completions (not "[DONE]").
// Error(kInvalidData) when it is not JSON, or an object with neither choices, usage nor error.
StreamEvent parse_stream_event(std::string_view data);

}  // namespace moeopt::bench
