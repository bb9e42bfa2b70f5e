// Remembers the tokens of short words. One thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "text/merge_table.h"

namespace moeopt {

class WordCache {
 public:
  static constexpr std::size_t kMostWordBytes = 24;
  static constexpr std::size_t kMostTokens = 9;

  WordCache() : slots_(kSlots) {}

  // A word made ready for look-ups; only of words up to kMostWordBytes.
  struct Key {
    std::array<std::uint64_t, 3> parts{};
    std::uint8_t size_bytes = 0;
    std::size_t slot = 0;
  };

  Key key(std::string_view word) const {
    Key key;
    key.size_bytes = static_cast<std::uint8_t>(word.size());
    std::memcpy(key.parts.data(), word.data(), word.size());
    const std::uint64_t mixed = (key.parts[0] ^ seed_) * 0x9E3779B97F4A7C15U +
                                (key.parts[1] ^ (seed_ >> 7)) * 0xC2B2AE3D27D4EB4FU +
                                key.parts[2] * 0x165667B19E3779F9U + key.size_bytes;
    key.slot = mix_hash(mixed) % kSlots;
    return key;
  }

  // The tokens of a word; empty when they are not known.
  std::span<const std::int32_t> find(const Key& key) const {
    const Slot& slot = slots_[key.slot];
    if (slot.size_bytes != key.size_bytes || slot.parts != key.parts) return {};
    return {slot.tokens.data(), slot.count};
  }

  // Remembers at most kMostTokens tokens, in place of what was there.
  void put(const Key& key, std::span<const std::int32_t> tokens) {
    if (tokens.empty() || tokens.size() > kMostTokens) return;
    Slot& slot = slots_[key.slot];
    slot.parts = key.parts;
    slot.size_bytes = key.size_bytes;
    slot.count = static_cast<std::uint8_t>(tokens.size());
    std::memcpy(slot.tokens.data(), tokens.data(), tokens.size_bytes());
  }

 private:
  static constexpr std::size_t kSlots = 1 << 15;

  struct alignas(64) Slot {
    std::array<std::uint64_t, 3> parts{};
    std::array<std::int32_t, kMostTokens> tokens{};
    std::uint8_t size_bytes = 0;
    std::uint8_t count = 0;
  };
  static_assert(sizeof(Slot) == 64);

  std::uint64_t seed_ = hash_seed();
  std::vector<Slot> slots_;
};

}  // namespace moeopt
