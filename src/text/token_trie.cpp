#include "text/token_trie.h"

namespace moeopt {

std::uint32_t TokenTrie::child(std::uint32_t node, char byte) const {
  std::uint32_t at = nodes_[node].first_child;
  while (at != kNone && nodes_[at].byte != byte) at = nodes_[at].next_sibling;
  return at;
}

bool TokenTrie::add(std::string_view text, std::uint32_t value) {
  std::uint32_t node = 0;
  for (const char byte : text) {
    std::uint32_t next = child(node, byte);
    if (next == kNone) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back({kNone, kNone, nodes_[node].first_child, byte});
      nodes_[node].first_child = next;
    }
    node = next;
  }
  if (nodes_[node].value != kNone) return false;
  nodes_[node].value = value;
  begins_[static_cast<unsigned char>(text.front())] = true;
  return true;
}

std::optional<TokenTrie::Found> TokenTrie::search(std::string_view text, std::size_t from) const {
  if (nodes_.size() == 1) return std::nullopt;
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
    std::optional<Found> longest;
    std::uint32_t node = 0;
    for (std::size_t at = begin; at < text.size(); ++at) {
      node = child(node, text[at]);
      if (node == kNone) break;
      if (nodes_[node].value != kNone) longest = Found{begin, at + 1, nodes_[node].value};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace moeopt
