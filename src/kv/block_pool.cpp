#include "kv/block_pool.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace moeopt {

BlockPool::BlockPool(int n_blocks) {
  MOEOPT_CHECK(n_blocks >= 0);
  references_.assign(static_cast<std::size_t>(n_blocks), 0);
  free_.resize(static_cast<std::size_t>(n_blocks));
  std::iota(free_.rbegin(), free_.rend(), 0);  // block 0 goes first
}

std::optional<std::vector<std::int32_t>> BlockPool::allocate(int count) {
  MOEOPT_CHECK(count >= 0);
  if (count > n_free()) return std::nullopt;
  std::vector<std::int32_t> blocks(free_.rbegin(), free_.rbegin() + count);
  free_.resize(free_.size() - static_cast<std::size_t>(count));
  for (const std::int32_t block : blocks) references_[static_cast<std::size_t>(block)] = 1;
  n_live_ += count;
  return blocks;
}

void BlockPool::retain(std::int32_t block) {
  MOEOPT_CHECK(block >= 0);
  MOEOPT_CHECK(block < n_blocks());
  std::int32_t& references = references_[static_cast<std::size_t>(block)];
  MOEOPT_CHECK(references > 0);
  ++references;
}

void BlockPool::release(std::span<const std::int32_t> blocks) {
  for (const std::int32_t block : blocks) {
    MOEOPT_CHECK(block >= 0);
    MOEOPT_CHECK(block < n_blocks());
    std::int32_t& references = references_[static_cast<std::size_t>(block)];
    MOEOPT_CHECK(references > 0);
    if (--references > 0) continue;
    --n_live_;
    free_.push_back(block);
  }
}

void BlockPool::check_identity() const {
  const auto live = std::count_if(references_.begin(), references_.end(),
                                  [](std::int32_t references) { return references > 0; });
  MOEOPT_CHECK(static_cast<int>(live) == n_live_);
  MOEOPT_CHECK(n_free() + n_live() == n_blocks());
}

}  // namespace moeopt
