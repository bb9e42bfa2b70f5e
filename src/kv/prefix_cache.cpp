#include "kv/prefix_cache.h"

#include <algorithm>
#include <random>

#include "base/check.h"

namespace moeopt {

PrefixCache::PrefixCache(BlockPool& pool, int block_tokens)
    : pool_(pool),
      block_tokens_(static_cast<std::size_t>(block_tokens)),
      nodes_(static_cast<std::size_t>(pool.n_blocks())),
      tokens_(nodes_.size() * block_tokens_) {
  MOEOPT_CHECK(block_tokens > 0);
  std::random_device device;
  seed_ = (std::uint64_t{device()} << 32) ^ device();
  by_edge_.reserve(nodes_.size());
  pool_.set_on_evict([this](std::int32_t block) { remove(block); });
}

PrefixCache::~PrefixCache() {
  pool_.set_on_evict({});
}

std::span<std::int32_t> PrefixCache::tokens_of(std::int32_t block) {
  return std::span(tokens_).subspan(static_cast<std::size_t>(block) * block_tokens_, block_tokens_);
}

std::span<const std::int32_t> PrefixCache::tokens_of(std::int32_t block) const {
  return std::span(tokens_).subspan(static_cast<std::size_t>(block) * block_tokens_, block_tokens_);
}

// SplitMix64's finaliser over a running state, seeded.
std::uint64_t PrefixCache::hash_of(std::int32_t parent,
                                   std::span<const std::int32_t> tokens) const {
  std::uint64_t state = seed_;
  const auto mix = [&state](std::int32_t value) {
    state += 0x9e3779b97f4a7c15U + static_cast<std::uint32_t>(value);
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9U;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebU;
    state ^= state >> 31;
  };
  mix(parent);
  for (const std::int32_t token : tokens) mix(token);
  return state;
}

std::int32_t PrefixCache::find(std::int32_t parent, std::span<const std::int32_t> tokens) const {
  const auto [first, last] = by_edge_.equal_range(hash_of(parent, tokens));
  for (auto at = first; at != last; ++at) {
    const std::int32_t block = at->second;
    if (nodes_[static_cast<std::size_t>(block)].parent == parent &&
        std::ranges::equal(tokens_of(block), tokens)) {
      return block;
    }
  }
  return kRoot;
}

std::vector<std::int32_t> PrefixCache::match(std::span<const std::int32_t> tokens) {
  std::vector<std::int32_t> blocks;
  std::int32_t parent = kRoot;
  while (tokens.size() >= block_tokens_) {
    const std::int32_t block = find(parent, tokens.first(block_tokens_));
    if (block == kRoot) break;
    blocks.push_back(block);
    parent = block;
    tokens = tokens.subspan(block_tokens_);
  }
  for (const std::int32_t block : blocks) pool_.retain(block);
  return blocks;
}

std::int32_t PrefixCache::insert(std::int32_t parent, std::span<const std::int32_t> tokens,
                                 std::int32_t block) {
  MOEOPT_CHECK(tokens.size() == block_tokens_);
  if (parent != kRoot) MOEOPT_CHECK(nodes_[static_cast<std::size_t>(parent)].in_tree);
  const std::int32_t present = find(parent, tokens);
  if (present == block) return block;
  if (present != kRoot) {
    pool_.retain(present);
    pool_.release({&block, 1});
    return present;
  }
  Node& node = nodes_[static_cast<std::size_t>(block)];
  MOEOPT_CHECK(!node.in_tree);
  by_edge_.emplace(hash_of(parent, tokens), block);
  std::ranges::copy(tokens, tokens_of(block).begin());
  node = {parent, 0, true};
  if (parent != kRoot) nodes_[static_cast<std::size_t>(parent)].n_children += 1;
  pool_.keep(block);
  ++n_nodes_;
  return block;
}

void PrefixCache::remove(std::int32_t block) {
  Node& node = nodes_[static_cast<std::size_t>(block)];
  MOEOPT_CHECK(node.in_tree);
  MOEOPT_CHECK(node.n_children == 0);
  if (node.parent != kRoot) nodes_[static_cast<std::size_t>(node.parent)].n_children -= 1;
  const auto [first, last] = by_edge_.equal_range(hash_of(node.parent, tokens_of(block)));
  const auto at = std::find_if(first, last, [&](const auto& edge) { return edge.second == block; });
  MOEOPT_CHECK((at != last));
  by_edge_.erase(at);
  node = {};
  --n_nodes_;
}

void PrefixCache::clear() {
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].in_tree) pool_.forget(static_cast<std::int32_t>(i));
    nodes_[i] = {};
  }
  by_edge_.clear();
  n_nodes_ = 0;
}

void PrefixCache::check() const {
  int in_tree = 0;
  std::vector<std::int32_t> children(nodes_.size(), 0);
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const auto block = static_cast<std::int32_t>(i);
    MOEOPT_CHECK(nodes_[i].in_tree == pool_.is_kept(block));
    if (!nodes_[i].in_tree) continue;
    ++in_tree;
    MOEOPT_CHECK(find(nodes_[i].parent, tokens_of(block)) == block);
    if (nodes_[i].parent == kRoot) continue;
    const auto parent = static_cast<std::size_t>(nodes_[i].parent);
    MOEOPT_CHECK(nodes_[parent].in_tree);
    children[parent] += 1;
    // Who holds a block holds its ancestors.
    MOEOPT_CHECK(pool_.references(nodes_[i].parent) >= std::min(1, pool_.references(block)));
  }
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    MOEOPT_CHECK(nodes_[i].n_children == children[i]);
  }
  MOEOPT_CHECK(in_tree == n_nodes_);
  MOEOPT_CHECK(static_cast<int>(by_edge_.size()) == n_nodes_);
}

}  // namespace moeopt
