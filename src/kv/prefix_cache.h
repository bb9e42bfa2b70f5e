// PrefixCache: a tree over the full KV blocks whose contents are known. A node is a block; its edge
// is the block's tokens; the path from the root is the prefix whose keys and values it holds.
// One thread (the engine's) owns it.
// Invariants: a match is exact, token by token, never by hash alone; who holds a block of the tree
// holds its ancestors, so that a cached block is never evicted before its descendants.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv/block_pool.h"

namespace moeopt {

class PrefixCache {
 public:
  static constexpr std::int32_t kRoot = -1;

  // Takes the pool's eviction notice. `pool` must outlive it.
  PrefixCache(BlockPool& pool, int block_tokens);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The blocks of the longest known prefix of `tokens` in whole blocks, each retained for the
  // caller.
  std::vector<std::int32_t> match(std::span<const std::int32_t> tokens);

  // The caller's block holds the finished keys and values of `tokens` (block_tokens of them) after
  // the prefix that ends at `parent`, a block of the tree that the caller holds (or kRoot). Returns
  // the tree's block for that prefix: `block`, or one that was there before; then that one is
  // retained for the caller and the caller's own is released.
  std::int32_t insert(std::int32_t parent, std::span<const std::int32_t> tokens,
                      std::int32_t block);

  // Forgets everything; blocks in use stay in use.
  void clear();

  int n_nodes() const { return n_nodes_; }
  // MOEOPT_CHECKs that nodes, edges and the pool's kept blocks agree.
  void check() const;

 private:
  struct Node {
    std::int32_t parent = kRoot;
    std::int32_t n_children = 0;
    bool in_tree = false;
  };
  std::uint64_t hash_of(std::int32_t parent, std::span<const std::int32_t> tokens) const;
  std::int32_t find(std::int32_t parent, std::span<const std::int32_t> tokens) const;
  std::span<std::int32_t> tokens_of(std::int32_t block);
  std::span<const std::int32_t> tokens_of(std::int32_t block) const;
  void remove(std::int32_t block);

  BlockPool& pool_;
  std::size_t block_tokens_;
  std::uint64_t seed_;                // nobody outside can make collisions
  std::vector<Node> nodes_;           // by block
  std::vector<std::int32_t> tokens_;  // [blocks, block_tokens]
  std::unordered_multimap<std::uint64_t, std::int32_t> by_edge_;  // hash of (parent, tokens): block
  int n_nodes_ = 0;
};

}  // namespace moeopt
