// What the blocks of an emulated launch share, and a task as they see it (emulated_block_util.h).
// Invariant: what is published here was done before.
#pragma once

#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/emulated_launch_util.h"

namespace moeopt::cuda::moe {

// What all blocks share.
struct World {
  const EmulatedLayer& layer;
  EmulatedWorkspace& workspace;
  const std::vector<int>& slots;
  const Interleaving& how;
  Launch launch;
  std::mt19937 random;
  EmulatedResult result;
  std::vector<std::vector<int>> lists;           // by slot: entries in order of arrival
  std::vector<int> logits;                       // by token: gate units done
  std::vector<int> quantised;                    // by token
  std::vector<int> chosen;                       // by token: its words are written
  std::set<std::tuple<int, int, int>> h_units;   // published: slot, tile, unit
  std::set<std::tuple<bool, int, int>> y_units;  // published: shared, row, unit

  bool chance() { return (random() & 1u) != 0; }
  void fault(const std::string& text) { result.faults.push_back(text); }
  int top_k() const { return layer.shape.top_k; }
  bool local() const { return layer.config.local_lists; }
  // Tiles with images: one ring, by which y comes, too; and four task slots instead of five.
  bool images() const { return layer.config.images(); }
  int task_slots() const { return images() ? 4 : 5; }
  // The tiles' rings (variants.h); with images one of both. Token stages: the fewest of any tile.
  int weight_stages() const { return layer.config.few() ? 6 : images() ? 4 : 5; }
  int token_stages() const { return layer.config.few() ? 6 : images() ? 4 : 3; }
  bool producer_lists() const {
    return local() && (layer.ids_given || layer.config.few()) &&
           launch.tokens * top_k() <= kProducerEntries;
  }
  bool publisher_routes() const {
    return layer.config.few() && !layer.ids_given &&
           layer.shape.max_tokens * top_k() <= kProducerEntries &&
           (layer.shape.shared() || layer.shape.max_tokens == 1);
  }
  bool has_logits(std::size_t token) const {
    return logits[token] == (launch.gate_tiles > 0 ? launch.gate_units : 0);
  }
  // An entry is a row of work unless its token has the same slot before.
  bool own(int entry) const {
    const int first = entry - entry % top_k();
    const int slot = slots.at(static_cast<std::size_t>(entry));
    for (int e = first; e < entry; ++e) {
      if (slots.at(static_cast<std::size_t>(e)) == slot) return false;
    }
    return slot >= 0;
  }
};

struct Described {
  Task task{};
  int expert = -1;  // its slot
  std::vector<int> rows;
  int stages = 0;      // whose weights the producer asks for
  int first_use = 0;   // of the ring: the stages before it
  bool kept = false;   // the publisher gives its stages back, too
  bool holds = false;  // no ticket is drawn before its first stage has been multiplied
  std::size_t ready = 0;
  std::uint32_t ready_count = 0;
  int units = 0;  // of h

  bool gemm() const { return task.kind == TaskKind::kFirst || task.kind == TaskKind::kSecond; }
  bool shared() const { return task.slot < 0; }
};

}  // namespace moeopt::cuda::moe
