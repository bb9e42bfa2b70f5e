// All tokens of a vocabulary by the bytes they add to a text, as one trie laid out in the order of
// a walk. Made once for a tokenizer (Tokenizer::byte_trie), read by any number of threads.
// Invariant: nodes come in depth-first order, bytes ascending; what lies below node i ends before
// nodes()[i].end.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt {

class VocabularyTrie {
 public:
  // Longer tokens are left out: no grammar ever allows them.
  static constexpr std::size_t kMostTokenBytes = 255;

  struct Node {
    std::uint32_t end;
    std::int32_t id;  // the token that ends here, or -1
    std::uint8_t byte;
    std::uint8_t depth;  // 1 for a token's first byte
  };

  // `tokens` by id; nothing, or an empty text, for an id that adds no text.
  explicit VocabularyTrie(std::span<const std::optional<std::string>> tokens);

  std::span<const Node> nodes() const { return nodes_; }
  // Ids whose bytes another id has too: the one in the trie, and the one that is not.
  struct Twin {
    std::int32_t id;
    std::int32_t same_as;
  };
  std::span<const Twin> twins() const { return twins_; }
  // The bytes of a token; empty when it adds no text or is left out.
  std::string_view bytes(std::int32_t id) const;
  std::int32_t id_end() const { return static_cast<std::int32_t>(offsets_.size()) - 1; }
  // The bytes that are a token by themselves.
  const std::bitset<256>& single_bytes() const { return single_bytes_; }

 private:
  std::vector<Node> nodes_;
  std::vector<Twin> twins_;
  std::string characters_;
  std::vector<std::uint32_t> offsets_;  // of an id's bytes in characters_
  std::bitset<256> single_bytes_;
};

}  // namespace moeopt
