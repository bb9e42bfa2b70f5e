// BlockPool: which physical KV blocks are free, which are in use and how often, and which are
// unused but worth keeping. It knows numbers, not bytes; one thread (the engine's) owns it.
// Invariant: n_free() + n_live() + n_cached() == n_blocks(), checked by check_identity().
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace moeopt {

class BlockPool {
 public:
  explicit BlockPool(int n_blocks);

  int n_blocks() const { return static_cast<int>(blocks_.size()); }
  int n_free() const { return static_cast<int>(free_.size()); }
  int n_live() const { return n_live_; }
  int n_cached() const { return n_cached_; }
  int n_available() const { return n_free() + n_cached(); }
  int references(std::int32_t block) const { return at(block).references; }

  // `count` blocks with one reference each, or nothing at all when fewer are available. Takes free
  // ones first, then evicts cached ones, the least recently used first.
  std::optional<std::vector<std::int32_t>> allocate(int count);
  // One more user of a live or cached block (a shared prefix).
  void retain(std::int32_t block);
  // One user fewer of each, the last of `blocks` first; a block without users is cached if it is
  // kept, else free. Of blocks released together the last is evicted first.
  void release(std::span<const std::int32_t> blocks);

  // A live block's contents are worth keeping when nobody uses it any more.
  void keep(std::int32_t block);
  // Undoes keep(); a cached block is free then.
  void forget(std::int32_t block);
  bool is_kept(std::int32_t block) const { return at(block).kept; }
  // Told of a cached block just before it is handed out again; it is no longer kept then.
  void set_on_evict(std::function<void(std::int32_t)> on_evict) { on_evict_ = std::move(on_evict); }

  // MOEOPT_CHECKs the invariant against a full count; for when the engine is idle.
  void check_identity() const;

 private:
  struct Block {
    std::int32_t references = 0;
    bool kept = false;
    std::int32_t before = -1, after = -1;  // in the list of cached blocks
  };
  Block& at(std::int32_t block);
  const Block& at(std::int32_t block) const;
  bool is_cached(const Block& block) const { return block.kept && block.references == 0; }
  void append(std::int32_t block);
  void unlink(std::int32_t block);
  void evict_one();

  std::vector<Block> blocks_;
  std::vector<std::int32_t> free_;       // the last one is handed out next
  std::int32_t first_ = -1, last_ = -1;  // cached, least recently used first
  int n_live_ = 0;
  int n_cached_ = 0;
  std::function<void(std::int32_t)> on_evict_;
};

}  // namespace moeopt
