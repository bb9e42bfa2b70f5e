// One token as OpenAI's logprobs show it.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "serve/mailbox.h"
#include "text/tokenizer.h"

namespace moeopt::serve {

inline constexpr std::string_view kReplacementText = "\xEF\xBF\xBD";  // U+FFFD

struct TokenText {
  std::string text;   // U+FFFD where it is part of a character
  std::string bytes;  // what it stands for
};

TokenText token_text(const Tokenizer& tokenizer, std::int32_t id);

// JSON has no infinity: an impossible token's logprob is shown as -9999, as other servers do.
double shown_logprob(float logprob);

// {token, logprob, bytes, top_logprobs: [...]} of a chat completion.
OrderedJson chat_logprob(const Tokenizer& tokenizer, const OwnedToken& token, int n_top);

// The logprobs of a completion's choice: tokens, token_logprobs, top_logprobs, text_offset. Grows
// token by token; each part streams on its own.
class CompletionLogprobs {
 public:
  CompletionLogprobs(const Tokenizer& tokenizer, int n_top);

  // `given`: false for the first token of a prompt, which nothing comes before.
  void add(const OwnedToken& token, bool given = true);
  bool empty() const { return tokens_.empty(); }
  // What was added since the last take().
  OrderedJson take();

 private:
  const Tokenizer& tokenizer_;
  int n_top_;
  std::int64_t offset_ = 0;  // in characters
  OrderedJson tokens_ = OrderedJson::array();
  OrderedJson logprobs_ = OrderedJson::array();
  OrderedJson top_ = OrderedJson::array();
  OrderedJson offsets_ = OrderedJson::array();
};

}  // namespace moeopt::serve
