#include "text/grammar/vocabulary_trie.h"

#include <algorithm>
#include <numeric>

namespace moeopt {

VocabularyTrie::VocabularyTrie(std::span<const std::optional<std::string>> tokens) {
  offsets_.reserve(tokens.size() + 1);
  offsets_.push_back(0);
  for (const std::optional<std::string>& token : tokens) {
    if (token && token->size() <= kMostTokenBytes) characters_ += *token;
    offsets_.push_back(static_cast<std::uint32_t>(characters_.size()));
  }
  std::vector<std::int32_t> order;
  for (std::int32_t id = 0; id < id_end(); ++id) {
    if (!bytes(id).empty()) order.push_back(id);
  }
  // NOTE: std::char_traits<char> compares as unsigned char.
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const int by_text = bytes(a).compare(bytes(b));
    return by_text != 0 ? by_text < 0 : a < b;
  });

  std::vector<std::uint32_t> open;  // the nodes of the token before, by depth
  std::string_view before;
  std::int32_t id_before = -1;
  const auto close = [&](std::size_t depth) {
    while (open.size() > depth) {
      nodes_[open.back()].end = static_cast<std::uint32_t>(nodes_.size());
      open.pop_back();
    }
  };
  for (const std::int32_t id : order) {
    const std::string_view text = bytes(id);
    if (id_before >= 0 && text == before) {
      twins_.push_back({id, id_before});
      continue;
    }
    const auto differs =
        std::mismatch(text.begin(), text.end(), before.begin(), before.end()).first;
    close(static_cast<std::size_t>(differs - text.begin()));
    while (open.size() < text.size()) {
      open.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back({0, -1, static_cast<std::uint8_t>(text[open.size() - 1]),
                        static_cast<std::uint8_t>(open.size())});
    }
    nodes_.back().id = id;
    if (text.size() == 1) single_bytes_.set(static_cast<std::uint8_t>(text[0]));
    before = text;
    id_before = id;
  }
  close(0);
}

std::string_view VocabularyTrie::bytes(std::int32_t id) const {
  if (id < 0 || id >= id_end()) return {};
  const auto at = static_cast<std::size_t>(id);
  return std::string_view(characters_).substr(offsets_[at], offsets_[at + 1] - offsets_[at]);
}

}  // namespace moeopt
