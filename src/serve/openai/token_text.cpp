#include "serve/openai/token_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace moeopt::serve {
namespace {

// "<0x1F>" of tokenizers with byte fallback.
std::optional<char> fallback_byte(std::string_view spelling) {
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling.back() != '>') {
    return std::nullopt;
  }
  unsigned value = 0;
  const char* end = spelling.data() + 5;
  if (std::from_chars(spelling.data() + 3, end, value, 16).ptr != end) return std::nullopt;
  return static_cast<char>(value);
}

OrderedJson bytes_json(std::string_view bytes) {
  OrderedJson list = OrderedJson::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

// A name for a dictionary of tokens: parts of characters are told apart by their bytes.
std::string token_key(const TokenText& token) {
  if (token.text.find(kReplacementText) == std::string::npos || token.text == token.bytes) {
    return token.text;
  }
  std::string key = "bytes:";
  for (const char c : token.bytes) key += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return key;
}

std::int64_t n_characters(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; });
}

}  // namespace

TokenText token_text(const Tokenizer& tokenizer, std::int32_t id) {
  TokenText token;
  token.text = tokenizer.decode({&id, 1}, /*skip_special=*/false);
  token.bytes = token.text;
  if (token.text.find(kReplacementText) == std::string::npos) return token;
  const std::string_view spelling = tokenizer.id_to_token(id);
  if (const auto byte = fallback_byte(spelling)) {
    token.bytes.assign(1, *byte);
  } else if (auto bytes = byte_level_bytes(spelling)) {
    token.bytes = *std::move(bytes);
  }
  return token;
}

double shown_logprob(float logprob) {
  return logprob > -9999.0f ? static_cast<double>(logprob) : -9999.0;
}

OrderedJson chat_logprob(const Tokenizer& tokenizer, const OwnedToken& token, int n_top) {
  const auto entry = [&tokenizer](std::int32_t id, float logprob) -> OrderedJson {
    const TokenText text = token_text(tokenizer, id);
    return {{"token", text.text},
            {"logprob", shown_logprob(logprob)},
            {"bytes", bytes_json(text.bytes)}};
  };
  OrderedJson json = entry(token.id, token.logprob);
  json["top_logprobs"] = OrderedJson::array();
  for (std::size_t i = 0; i < token.top.size() && i < static_cast<std::size_t>(n_top); ++i) {
    json["top_logprobs"].push_back(entry(token.top[i].id, token.top[i].logprob));
  }
  return json;
}

CompletionLogprobs::CompletionLogprobs(const Tokenizer& tokenizer, int n_top)
    : tokenizer_(tokenizer), n_top_(n_top) {}

void CompletionLogprobs::add(const OwnedToken& token, bool given) {
  const TokenText text = token_text(tokenizer_, token.id);
  tokens_.push_back(token_key(text));
  offsets_.push_back(offset_);
  offset_ += n_characters(text.text);
  if (!given) {
    logprobs_.push_back(nullptr);
    top_.push_back(nullptr);
    return;
  }
  logprobs_.push_back(shown_logprob(token.logprob));
  OrderedJson top = OrderedJson::object();
  for (std::size_t i = 0; i < token.top.size() && i < static_cast<std::size_t>(n_top_); ++i) {
    top[token_key(token_text(tokenizer_, token.top[i].id))] = shown_logprob(token.top[i].logprob);
  }
  // The sampled token is always among them, as OpenAI shows it.
  if (n_top_ > 0) top.emplace(token_key(text), shown_logprob(token.logprob));
  top_.push_back(std::move(top));
}

OrderedJson CompletionLogprobs::take() {
  OrderedJson json;
  json["tokens"] = std::exchange(tokens_, OrderedJson::array());
  json["token_logprobs"] = std::exchange(logprobs_, OrderedJson::array());
  json["top_logprobs"] = std::exchange(top_, OrderedJson::array());
  json["text_offset"] = std::exchange(offsets_, OrderedJson::array());
  return json;
}

}  // namespace moeopt::serve
