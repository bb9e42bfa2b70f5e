// The tokenizers and goldens of tests/text/data/tokenizer (tools/tokenizer_goldens/make.py).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace moeopt::testing {

// "qwen2", "llama3", ...
const std::vector<std::string>& tokenizer_families();

std::string tokenizer_path(std::string_view name);
const Tokenizer& shared_tokenizer(const std::string& family);
Json tokenizer_json(const std::string& family);
Json tokenizer_golden(const std::string& family);

// The bytes of all texts of texts.json; some are not UTF-8.
const std::vector<std::string>& tokenizer_texts();

// How text number `index` was encoded by make.py.
struct EncodeMode {
  bool add_special_tokens;
  bool parse_special;
};
EncodeMode encode_mode(std::size_t index);

std::string digest(std::span<const std::int32_t> ids, std::string_view decoded,
                   std::string_view skipped);

// The message of the Error that reading `json` throws; empty when there is none.
std::string refusal(const Json& json);
// The code of that Error; fails the test when there is none.
ErrorCode refusal_code(const Json& json);

}  // namespace moeopt::testing
