// A file of prompts, one JSON object a line:
//   {"prompt": "text" or [ids], "output_tokens": 64}
//   {"messages": [{"role": "user", "content": "..."}], "output_tokens": 64}
// `output_tokens` may be left out; other fields are ignored.
#pragma once

#include <filesystem>
#include <vector>

#include "base/json.h"

namespace moeopt::bench {

struct DatasetLine {
  bool is_chat = false;
  OrderedJson content;    // the prompt, or the messages
  int output_tokens = 0;  // 0: not said
};

// Empty lines are skipped. Error(kNotFound), Error(kInvalidData) naming file, line and field.
std::vector<DatasetLine> read_dataset(const std::filesystem::path& file);

}  // namespace moeopt::bench
