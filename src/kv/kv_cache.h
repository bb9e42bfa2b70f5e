// KvCache: the block tables of sequences over one pool, with or without a prefix cache. It decides
// which blocks a sequence starts with, grows its table, and keeps finished blocks for later ones.
// One thread (the engine's) owns it. Invariant: a block is offered to others only after publish()
// said that its positions were computed by a finished step.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kv/block_pool.h"
#include "kv/prefix_cache.h"

namespace moeopt {

// One sequence's blocks, in the order of its positions.
struct BlockTable {
  std::vector<std::int32_t> blocks;
  int n_in_tree = 0;  // leading blocks that are the prefix cache's

  // A block of another table whose contents blocks[copy_to] must get before the next step reads it;
  // held until copied() or release().
  std::int32_t copy_from = -1;
  int copy_to = -1;
};

class KvCache {
 public:
  KvCache(int n_blocks, int block_tokens, bool with_prefix_cache);

  int block_tokens() const { return block_tokens_; }
  int blocks_for(int n_tokens) const { return (n_tokens + block_tokens_ - 1) / block_tokens_; }
  const BlockPool& pool() const { return pool_; }
  bool has_prefix_cache() const { return prefixes_.has_value(); }

  // Fills an empty table with blocks for all of `tokens`; returns how many leading ones are there
  // already, at most tokens.size() - 1 so that the last one is computed, or nullopt, with the table
  // still empty, when `spare` blocks more than that are not available.
  // `look_up`: whether the prefix cache may be asked.
  std::optional<int> start(BlockTable& table, std::span<const std::int32_t> tokens, bool look_up,
                           int spare);

  // `from` holds the finished keys and values of its first n_tokens. An empty `to` takes over what
  // a sequence with the same tokens can share, all but the last token: whole blocks, and the rest
  // of a block by copy. To be completed by resume().
  void share(const BlockTable& from, int n_tokens, BlockTable& to);
  // Adds to a shared table the blocks for n_tokens. Returns how many leading ones are there, or
  // nullopt, with the table as it was.
  std::optional<int> resume(BlockTable& table, int n_tokens, int spare);
  void copied(BlockTable& table);

  // Room for n_tokens; false, with nothing changed, when there are no blocks.
  bool grow(BlockTable& table, int n_tokens);

  // A finished step computed tokens[0, n_computed): whole blocks of them may serve others.
  void publish(BlockTable& table, std::span<const std::int32_t> tokens, int n_computed);

  // Gives all blocks back; those in the prefix cache stay there while nobody needs the room.
  void release(BlockTable& table);

  void forget_prefixes();
  void check_identity() const;

 private:
  bool extend(BlockTable& table, int n_blocks, int spare);

  BlockPool pool_;
  int block_tokens_;
  std::optional<PrefixCache> prefixes_;
};

}  // namespace moeopt
