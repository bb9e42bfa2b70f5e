#include "text/added_tokens.h"

#include <algorithm>

#include "base/log.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace moeopt {
namespace {

constexpr std::size_t kMostContentBytes = 512;  // bounds the time of a search
constexpr std::size_t kMostTokens = 1 << 18;

AddedToken read_token(const JsonField& field) {
  AddedToken token;
  token.content = field.at("content").string();
  if (token.content.size() > kMostContentBytes) {
    field.invalid(fmt::format("content of more than {} bytes", kMostContentBytes));
  }
  token.special = field.flag("special", false);
  token.single_word = field.flag("single_word", false);
  token.lstrip = field.flag("lstrip", false);
  token.rstrip = field.flag("rstrip", false);
  token.is_normalized = field.flag("normalized", !token.special);
  return token;
}

// The beginning of the last character of `text` (valid UTF-8, not empty).
std::size_t last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) --at;
  return at;
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word_character(decode_utf8(text, last_character(text)).code_point);
}

bool begins_with_word(std::string_view text) {
  return !text.empty() && is_word_character(decode_utf8(text, 0).code_point);
}

std::size_t space_before(std::string_view text, std::size_t floor, std::size_t at) {
  while (at > floor) {
    const std::size_t begin = last_character(text.substr(0, at));
    if (!is_white_space(decode_utf8(text, begin).code_point)) break;
    at = begin;
  }
  return std::max(at, floor);
}

std::size_t space_after(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const DecodedCharacter character = decode_utf8(text, at);
    if (!is_white_space(character.code_point)) break;
    at += character.size_bytes;
  }
  return at;
}

}  // namespace

AddedTokens::AddedTokens(const std::optional<JsonField>& field, const Vocabulary& vocabulary,
                         const Normalizer& normalizer) {
  if (!field) return;
  read(*field, vocabulary, normalizer);
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    if (token.normalized.empty()) continue;
    TokenTrie& trie = token.is_normalized ? normalized_ : raw_;
    if (!trie.add(token.normalized, static_cast<std::uint32_t>(i))) {
      field->invalid(fmt::format("two tokens are \"{}\" after normalization", token.normalized));
    }
  }
}

void AddedTokens::read(const JsonField& field, const Vocabulary& vocabulary,
                       const Normalizer& normalizer) {
  if (field.array_size() > kMostTokens) field.invalid("too many added tokens");
  auto next_id = static_cast<std::int32_t>(vocabulary.size());
  for (std::size_t i = 0; i < field.array_size(); ++i) {
    const JsonField entry = field.element(i);
    AddedToken token = read_token(entry);
    if (token.content.empty()) continue;
    RegexBudget budget(token.content.size());
    token.normalized = token.content;
    if (token.is_normalized) {
      std::string storage;
      token.normalized = normalizer.apply(token.content, storage, budget);
      if (token.normalized.size() > kMostContentBytes) entry.invalid("too long when normalized");
    }
    const auto [known, is_new] = by_content_.try_emplace(token.content, tokens_.size());
    if (!is_new) {
      AddedToken& earlier = tokens_[known->second];
      token.id = earlier.id;
      token.special = token.special || earlier.special;
      earlier = std::move(token);
      continue;
    }
    const auto in_vocabulary = vocabulary.find(token.content);
    token.id = in_vocabulary ? *in_vocabulary : next_id++;
    const auto given = entry.find("id");
    if (given && given->integer(0, UINT32_MAX) != token.id) {
      log::warning("{}: \"{}\" gets id {}, as in the tokenizers library", given->name(),
                   token.content, token.id);
    }
    tokens_.push_back(std::move(token));
  }
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(std::string(content));
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

void AddedTokens::split(std::string_view text, bool normalized, bool parse_special,
                        std::vector<TextPart>& parts) const {
  const TokenTrie& trie = normalized ? normalized_ : raw_;
  std::size_t done = 0;
  std::size_t from = 0;
  while (const auto found = trie.search(text, from)) {
    from = found->end;
    const AddedToken& token = tokens_[found->value];
    if (token.special && !parse_special) continue;
    if (token.single_word && (ends_with_word(text.substr(0, found->begin)) ||
                              begins_with_word(text.substr(found->end)))) {
      continue;
    }
    std::size_t begin = found->begin;
    std::size_t end = found->end;
    // NOTE: `begin` may lie before `done` where the token before this one stripped its right side.
    if (token.lstrip) begin = std::max(space_before(text, std::min(done, begin), begin), done);
    if (token.rstrip) end = space_after(text, end);
    if (done < begin) parts.push_back({text.substr(done, begin - done), std::nullopt});
    if (begin < end) parts.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done), std::nullopt});
}

}  // namespace moeopt
