// A layer with its weights, inputs, outputs and workspace, ready to call: for the groups that look
// at more than one launch. Everything lies in the arena's current scope.
#pragma once

#include <optional>

#include "gpu/draw.h"

namespace moeopt::gpu_test {

class Rig {
 public:
  // `experts`: packed before, for the same shapes; null: made here.
  Rig(Arena& arena, const moeopt_moe_desc& layer_desc, const BatchPlan& batch, std::uint64_t seed,
      Experts* given_experts = nullptr);
  // The rows `rows` of another rig, on a layer with another capacity and tile.
  Rig(Arena& arena, Rig& whole, const std::vector<std::int32_t>& rows, int max_tokens,
      int tile_tokens = 0);

  Rig(const Rig&) = delete;  // own_experts is pointed to
  Rig& operator=(const Rig&) = delete;

  moeopt_moe_args args(int tokens) const {
    return make_args(*experts, inputs, outputs, workspace, tokens);
  }
  void forward(const moeopt_moe_args& args, const Stream& stream) const;
  void forward(int tokens) const { forward(args(tokens), arena.stream()); }
  void poison_out() const;
  // Number of values in the first `rows` rows of out whose bits differ from the other's rows
  // `other_rows` (device memory; null: the same).
  std::uint64_t differing(const Rig& other, int rows,
                          const std::int32_t* other_rows = nullptr) const;
  moeopt_moe_counters counters() const { return read_counters(arena, workspace); }

  Arena& arena;
  moeopt_moe_desc desc;
  LayerHandle layer;
  std::optional<Experts> own_experts;
  Experts* experts;
  Inputs inputs;
  Outputs outputs;
  void* workspace;
};

}  // namespace moeopt::gpu_test
