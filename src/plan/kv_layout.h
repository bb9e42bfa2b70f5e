// KvLayout: how one token's keys and values lie in memory, as data.
// Invariant: one (layer, block) is one contiguous region of `block_bytes()`, its planes one after
// the other, each plane [block_tokens, elements] row-major. Backends, the pool and transfers agree
// on it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/model_spec.h"
#include "tensor/dtype.h"

namespace moeopt {

struct KvPlane {
  std::string name;  // "k", "v"; MLA: "latent", "rope"
  int elements = 0;  // per token; k and v: n_kv_heads * head_dim, heads one after the other
};

struct KvLayout {
  std::vector<KvPlane> planes;
  DType dtype = DType::kBF16;
  int n_layers = 0;
  int block_tokens = 16;

  std::uint64_t token_bytes_per_layer() const;
  std::uint64_t token_bytes() const;                  // all layers
  std::uint64_t block_bytes() const;                  // one layer
  std::uint64_t plane_offset_bytes(int plane) const;  // within a block's region
};

// The layout of a model: K and V for GQA, the latent and the rope part for MLA. All layers of a
// model have the same planes; a spec that mixes them is refused by parse_model_spec.
KvLayout kv_layout_of(const ModelSpec& spec, DType dtype, int block_tokens);

}  // namespace moeopt
