// A set of texts, searched for all at once.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace moeopt {

class TokenTrie {
 public:
  TokenTrie() : nodes_(1) {}

  // Adds `text` (not empty) under `value`; false when it is there already.
  bool add(std::string_view text, std::uint32_t value);

  struct Found {
    std::size_t begin;
    std::size_t end;
    std::uint32_t value;
  };

  // The leftmost of all texts found at or after `from`, the longest of those.
  std::optional<Found> search(std::string_view text, std::size_t from) const;

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  struct Node {
    std::uint32_t value = kNone;
    std::uint32_t first_child = kNone;
    std::uint32_t next_sibling = kNone;
    char byte = 0;
  };

  std::uint32_t child(std::uint32_t node, char byte) const;

  std::vector<Node> nodes_;
  std::array<bool, 256> begins_{};
};

}  // namespace moeopt
