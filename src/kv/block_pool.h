// BlockPool: which physical KV blocks are free and how often each of the others is used.
// It knows numbers, not bytes; one thread (the engine's) owns it.
// Invariant: n_free() + n_live() == n_blocks(), checked by check_identity().
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace moeopt {

class BlockPool {
 public:
  explicit BlockPool(int n_blocks);

  int n_blocks() const { return static_cast<int>(references_.size()); }
  int n_free() const { return static_cast<int>(free_.size()); }
  int n_live() const { return n_live_; }

  // `count` blocks with one reference each, or nothing at all when fewer are free.
  std::optional<std::vector<std::int32_t>> allocate(int count);
  // One more user of a live block (a shared prefix).
  void retain(std::int32_t block);
  // One user fewer of each; a block without users is free again.
  void release(std::span<const std::int32_t> blocks);

  // MOEOPT_CHECKs the invariant against a full count; for when the engine is idle.
  void check_identity() const;

 private:
  std::vector<std::int32_t> free_;  // the last one is handed out next
  std::vector<std::int32_t> references_;
  int n_live_ = 0;
};

}  // namespace moeopt
