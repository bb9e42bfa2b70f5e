#include "kv/kv_cache.h"

#include <algorithm>

#include "base/bypass.h"
#include "base/check.h"

namespace moeopt {

KvCache::KvCache(int n_blocks, int block_tokens, bool with_prefix_cache)
    : pool_(n_blocks), block_tokens_(block_tokens) {
  MOEOPT_CHECK(block_tokens > 0);
  if (with_prefix_cache) prefixes_.emplace(pool_, block_tokens);
}

bool KvCache::extend(BlockTable& table, int n_blocks, int spare) {
  const int more = n_blocks - static_cast<int>(table.blocks.size());
  if (more <= 0) return true;
  if (more + spare > pool_.n_available()) return false;
  auto blocks = pool_.allocate(more);
  MOEOPT_CHECK(blocks.has_value());
  table.blocks.insert(table.blocks.end(), blocks->begin(), blocks->end());
  return true;
}

std::optional<int> KvCache::start(BlockTable& table, std::span<const std::int32_t> tokens,
                                  bool look_up, int spare) {
  MOEOPT_CHECK(table.blocks.empty());
  MOEOPT_CHECK(!tokens.empty());
  const int n_tokens = static_cast<int>(tokens.size());
  if (is_bypassed("prefix-cache")) look_up = false;
  if (prefixes_ && look_up) table.blocks = prefixes_->match(tokens);
  int n_there = static_cast<int>(table.blocks.size()) * block_tokens_;
  if (n_there == n_tokens) {
    // All of it is there: the last block is copied, so that its last token can be computed again.
    table.copy_from = table.blocks.back();
    table.blocks.pop_back();
    table.copy_to = static_cast<int>(table.blocks.size());
    n_there -= 1;
  }
  table.n_in_tree = static_cast<int>(table.blocks.size());
  if (extend(table, blocks_for(n_tokens), spare)) return n_there;
  if (table.copy_from >= 0) {  // without the copy its source may be had
    copied(table);
    table.copy_to = -1;
    if (extend(table, blocks_for(n_tokens), spare)) return table.n_in_tree * block_tokens_;
  }
  release(table);
  return std::nullopt;
}

void KvCache::share(const BlockTable& from, int n_tokens, BlockTable& to) {
  MOEOPT_CHECK(to.blocks.empty());
  const int whole = (n_tokens - 1) / block_tokens_;
  MOEOPT_CHECK(static_cast<int>(from.blocks.size()) > whole);
  to.blocks.assign(from.blocks.begin(), from.blocks.begin() + whole);
  to.n_in_tree = std::min(from.n_in_tree, whole);
  for (const std::int32_t block : to.blocks) pool_.retain(block);
  if ((n_tokens - 1) % block_tokens_ == 0) return;  // the last token begins a block
  to.copy_from = from.blocks[static_cast<std::size_t>(whole)];
  to.copy_to = whole;
  pool_.retain(to.copy_from);
}

std::optional<int> KvCache::resume(BlockTable& table, int n_tokens, int spare) {
  const int n_there =
      table.copy_from >= 0 ? n_tokens - 1 : static_cast<int>(table.blocks.size()) * block_tokens_;
  if (!extend(table, blocks_for(n_tokens), spare)) return std::nullopt;
  return n_there;
}

void KvCache::copied(BlockTable& table) {
  if (table.copy_from < 0) return;
  pool_.release({&table.copy_from, 1});
  table.copy_from = -1;
}

bool KvCache::grow(BlockTable& table, int n_tokens) {
  return extend(table, blocks_for(n_tokens), 0);
}

void KvCache::publish(BlockTable& table, std::span<const std::int32_t> tokens, int n_computed) {
  if (!prefixes_) return;
  const auto size = static_cast<std::size_t>(block_tokens_);
  while ((table.n_in_tree + 1) * block_tokens_ <= n_computed) {
    const auto index = static_cast<std::size_t>(table.n_in_tree);
    const std::int32_t parent = index == 0 ? PrefixCache::kRoot : table.blocks[index - 1];
    table.blocks[index] =
        prefixes_->insert(parent, tokens.subspan(index * size, size), table.blocks[index]);
    table.n_in_tree += 1;
  }
}

void KvCache::release(BlockTable& table) {
  copied(table);
  pool_.release(table.blocks);
  table = {};
}

void KvCache::forget_prefixes() {
  if (prefixes_) prefixes_->clear();
}

void KvCache::check_identity() const {
  pool_.check_identity();
  if (prefixes_) prefixes_->check();
}

}  // namespace moeopt
