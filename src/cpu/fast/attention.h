// Attention over the paged cache: each (sequence, key head, run of queries) is one work item.
#pragma once

#include "cpu/fast/strips.h"
#include "cpu/fast/team.h"

namespace moeopt::cpu::fast {

// Bytes of scratch for either kind of attention over steps of up to `max_rows` rows.
std::size_t attention_scratch_bytes(const Team& team, const AttentionSpec& spec, int max_rows);

void attention_gqa(const Team& team, const float* q, const AttentionSpec& spec,
                   std::span<const SequenceRows> sequences, const KvBlocks& kv, float* out,
                   std::span<std::byte> scratch);
void attention_mla(const Team& team, const float* q, const AttentionSpec& spec, const Matrix& kv_b,
                   std::span<const SequenceRows> sequences, const KvBlocks& kv, float* out,
                   std::span<std::byte> scratch);

}  // namespace moeopt::cpu::fast
