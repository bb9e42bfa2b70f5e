#include "text/merge_table.h"

#include <bit>
#include <random>

namespace moeopt {

std::uint64_t hash_seed() {
  static const std::uint64_t seed = [] {
    std::random_device device;
    return (std::uint64_t{device()} << 32) | device();
  }();
  return seed;
}

MergeTable::MergeTable(std::size_t count)
    : mask_(std::bit_ceil(2 * count + 2) - 1), entries_(mask_ + 1) {}

void MergeTable::set(std::int32_t left, std::int32_t right, Merge merge) {
  const std::uint64_t key = key_of(left, right);
  std::size_t at = slot_of(key);
  while (entries_[at].merge.rank != kNoMerge && entries_[at].key != key) at = (at + 1) & mask_;
  entries_[at] = {key, merge};
}

}  // namespace moeopt
