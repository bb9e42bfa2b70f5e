// Attention over the paged cache, plainly: for each row and head, all scores, softmax, weighted
// sum. Invariant: a row's result depends on its position's history alone, summed from the oldest
// position on, so that neither chunking nor the block table changes a bit.
#pragma once

#include <span>

#include "cpu/ops.h"

namespace moeopt::cpu::reference {

// Where one position's values of a plane lie in the cache.
std::byte* kv_entry(const KvBlocks& kv, std::span<const std::int32_t> block_table, int plane,
                    int position);

// Stores a row [plane elements] in the cache's dtype (f32 or bf16).
void store_kv(const float* row, const KvBlocks& kv, std::span<const std::int32_t> block_table,
              int plane, int position);

// Elements of scratch for either kind of attention.
std::size_t attention_scratch(const AttentionSpec& spec, int max_context);

// q [rows, n_heads * qk_head_dim] -> out [rows, n_heads * v_head_dim], softmax(scale q.k) v.
void attention_gqa(const float* q, const AttentionSpec& spec, const SequenceRows& sequence,
                   const KvBlocks& kv, float* out, std::span<float> scratch);

// The same with keys [K_h c, r] and values V_h c made from the cached latent c and rope part r, by
// K_h, V_h = rows of kv_b: score = (K_h^T q_nope) . c + q_rope . r, output = V_h (sum p c). With
// `round_inputs`, q_nope and the weighted latent are rounded to bf16 before kv_b.
void attention_mla(const float* q, const AttentionSpec& spec, const Matrix& kv_b, bool round_inputs,
                   const SequenceRows& sequence, const KvBlocks& kv, float* out,
                   std::span<float> scratch);

}  // namespace moeopt::cpu::reference
