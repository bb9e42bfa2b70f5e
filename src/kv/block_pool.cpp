#include "kv/block_pool.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace moeopt {

BlockPool::BlockPool(int n_blocks) {
  MOEOPT_CHECK(n_blocks >= 0);
  blocks_.resize(static_cast<std::size_t>(n_blocks));
  free_.resize(static_cast<std::size_t>(n_blocks));
  std::iota(free_.rbegin(), free_.rend(), 0);  // block 0 goes first
}

BlockPool::Block& BlockPool::at(std::int32_t block) {
  MOEOPT_CHECK(block >= 0);
  MOEOPT_CHECK(block < n_blocks());
  return blocks_[static_cast<std::size_t>(block)];
}

const BlockPool::Block& BlockPool::at(std::int32_t block) const {
  MOEOPT_CHECK(block >= 0);
  MOEOPT_CHECK(block < n_blocks());
  return blocks_[static_cast<std::size_t>(block)];
}

void BlockPool::append(std::int32_t block) {
  Block& appended = at(block);
  appended.before = last_;
  appended.after = -1;
  (last_ < 0 ? first_ : at(last_).after) = block;
  last_ = block;
  ++n_cached_;
}

void BlockPool::unlink(std::int32_t block) {
  Block& gone = at(block);
  (gone.before < 0 ? first_ : at(gone.before).after) = gone.after;
  (gone.after < 0 ? last_ : at(gone.after).before) = gone.before;
  gone.before = gone.after = -1;
  --n_cached_;
}

void BlockPool::evict_one() {
  const std::int32_t block = first_;
  if (on_evict_) on_evict_(block);
  unlink(block);
  at(block).kept = false;
  free_.push_back(block);
}

std::optional<std::vector<std::int32_t>> BlockPool::allocate(int count) {
  MOEOPT_CHECK(count >= 0);
  if (count > n_available()) return std::nullopt;
  while (n_free() < count) evict_one();
  std::vector<std::int32_t> blocks(free_.rbegin(), free_.rbegin() + count);
  free_.resize(free_.size() - static_cast<std::size_t>(count));
  for (const std::int32_t block : blocks) at(block).references = 1;
  n_live_ += count;
  return blocks;
}

void BlockPool::retain(std::int32_t block) {
  Block& retained = at(block);
  if (is_cached(retained)) {
    unlink(block);
    ++n_live_;
  } else {
    MOEOPT_CHECK(retained.references > 0);
  }
  ++retained.references;
}

void BlockPool::release(std::span<const std::int32_t> blocks) {
  for (std::size_t i = blocks.size(); i-- > 0;) {
    Block& released = at(blocks[i]);
    MOEOPT_CHECK(released.references > 0);
    if (--released.references > 0) continue;
    --n_live_;
    if (released.kept) {
      append(blocks[i]);
    } else {
      free_.push_back(blocks[i]);
    }
  }
}

void BlockPool::keep(std::int32_t block) {
  MOEOPT_CHECK(at(block).references > 0);
  at(block).kept = true;
}

void BlockPool::forget(std::int32_t block) {
  Block& forgotten = at(block);
  MOEOPT_CHECK(forgotten.kept);
  if (is_cached(forgotten)) {
    unlink(block);
    free_.push_back(block);
  }
  forgotten.kept = false;
}

void BlockPool::check_identity() const {
  const auto live =
      std::ranges::count_if(blocks_, [](const Block& block) { return block.references > 0; });
  const auto cached =
      std::ranges::count_if(blocks_, [this](const Block& block) { return is_cached(block); });
  MOEOPT_CHECK(static_cast<int>(live) == n_live_);
  MOEOPT_CHECK(static_cast<int>(cached) == n_cached_);
  int listed = 0;
  for (std::int32_t block = first_; block >= 0 && listed <= n_cached_; block = at(block).after) {
    ++listed;
  }
  MOEOPT_CHECK(listed == n_cached_);
  MOEOPT_CHECK(n_free() + n_live() + n_cached() == n_blocks());
}

}  // namespace moeopt
