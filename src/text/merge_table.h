// The merges of a BPE model, by pair of ids.
// Invariant: lookups take constant expected time whatever the file holds: the hash has a seed drawn
// when the program starts.
#pragma once

#include <cstdint>
#include <vector>

namespace moeopt {

inline constexpr std::uint32_t kNoMerge = UINT32_MAX;

struct Merge {
  std::uint32_t rank = kNoMerge;  // lower ranks merge first
  std::int32_t result = -1;
};

// A number that differs from run to run.
std::uint64_t hash_seed();

inline std::uint64_t mix_hash(std::uint64_t value) {
  value ^= value >> 32;
  value *= 0xD6E8FEB86659FD93U;
  value ^= value >> 32;
  value *= 0xD6E8FEB86659FD93U;
  value ^= value >> 32;
  return value;
}

class MergeTable {
 public:
  // Room for `count` merges.
  explicit MergeTable(std::size_t count);

  // Adds the merge of a pair, or replaces it: the last one given counts.
  void set(std::int32_t left, std::int32_t right, Merge merge);

  // The merge of a pair; rank kNoMerge when there is none.
  Merge find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t at = slot_of(key);; at = (at + 1) & mask_) {
      const Entry& entry = entries_[at];
      if (entry.key == key || entry.merge.rank == kNoMerge) return entry.merge;
    }
  }

 private:
  struct Entry {
    std::uint64_t key = 0;
    Merge merge;
  };

  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) |
           static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t key) const { return mix_hash(key ^ seed_) & mask_; }

  std::uint64_t seed_ = hash_seed();
  std::size_t mask_;
  std::vector<Entry> entries_;
};

}  // namespace moeopt
