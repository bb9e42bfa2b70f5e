#include "plan/kv_layout.h"

#include "base/check.h"

namespace moeopt {

std::uint64_t KvLayout::token_bytes_per_layer() const {
  std::uint64_t elements = 0;
  for (const KvPlane& plane : planes) elements += static_cast<std::uint64_t>(plane.elements);
  return elements * dtype_bytes(dtype);
}

std::uint64_t KvLayout::token_bytes() const {
  return token_bytes_per_layer() * static_cast<std::uint64_t>(n_layers);
}

std::uint64_t KvLayout::block_bytes() const {
  return token_bytes_per_layer() * static_cast<std::uint64_t>(block_tokens);
}

std::uint64_t KvLayout::plane_offset_bytes(int plane) const {
  MOEOPT_CHECK(plane >= 0);
  MOEOPT_CHECK(static_cast<std::size_t>(plane) < planes.size());
  std::uint64_t elements = 0;
  for (int i = 0; i < plane; ++i) elements += static_cast<std::uint64_t>(planes[i].elements);
  return elements * static_cast<std::uint64_t>(block_tokens) * dtype_bytes(dtype);
}

KvLayout kv_layout_of(const ModelSpec& spec, DType dtype, int block_tokens) {
  MOEOPT_CHECK(!spec.layers.empty());
  MOEOPT_CHECK(block_tokens > 0);
  const AttentionSpec& attention = spec.layers.front().attention;
  KvLayout layout;
  if (attention.kind == AttentionKind::kMla) {
    layout.planes = {{"latent", attention.kv_lora_rank}, {"rope", attention.qk_rope_dim}};
  } else {
    layout.planes = {{"k", attention.n_kv_heads * attention.qk_head_dim},
                     {"v", attention.n_kv_heads * attention.v_head_dim}};
  }
  layout.dtype = dtype;
  layout.n_layers = static_cast<int>(spec.layers.size());
  layout.block_tokens = block_tokens;
  return layout;
}

}  // namespace moeopt
