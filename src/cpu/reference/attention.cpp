#include "cpu/reference/attention.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "cpu/reference/matrix.h"

namespace moeopt::cpu::reference {
namespace {

// q . (elements [offset, offset + n) of a cache entry)
float dot_entry(const float* q, const std::byte* entry, DType dtype, int offset, int n) {
  if (dtype == DType::kF32) return dot<float, float>(q, entry + offset * sizeof(float), n);
  MOEOPT_CHECK(dtype == DType::kBF16);
  return dot<float, Bf16>(q, entry + offset * sizeof(Bf16), n);
}

float load_entry(const std::byte* entry, DType dtype, int i) {
  return dtype == DType::kF32 ? load<float>(entry, i) : to_float(load<Bf16>(entry, i));
}

void add_entry(float weight, const std::byte* entry, DType dtype, int offset, int n, float* sum) {
  for (int i = 0; i < n; ++i) sum[i] += weight * load_entry(entry, dtype, offset + i);
}

// First position that the token at `position` may see.
int first_visible(const AttentionSpec& spec, int position) {
  return spec.sliding_window ? std::max(0, position - *spec.sliding_window + 1) : 0;
}

void softmax(std::span<float> scores) {
  const float largest = *std::ranges::max_element(scores);
  float sum = 0;
  for (float& score : scores) {
    score = std::exp(score - largest);
    sum += score;
  }
  for (float& score : scores) score /= sum;
}

}  // namespace

std::byte* kv_entry(const KvBlocks& kv, std::span<const std::int32_t> block_table, int plane,
                    int position) {
  const KvLayout& layout = *kv.layout;
  const int block = block_table[position / layout.block_tokens];
  MOEOPT_CHECK(block >= 0);
  const std::uint64_t token_bytes = layout.planes[plane].elements * dtype_bytes(layout.dtype);
  return kv.data + static_cast<std::uint64_t>(block) * layout.block_bytes() +
         layout.plane_offset_bytes(plane) + (position % layout.block_tokens) * token_bytes;
}

void store_kv(const float* row, const KvBlocks& kv, std::span<const std::int32_t> block_table,
              int plane, int position) {
  std::byte* entry = kv_entry(kv, block_table, plane, position);
  const auto n = static_cast<std::size_t>(kv.layout->planes[plane].elements);
  if (kv.layout->dtype == DType::kF32) {
    std::memcpy(entry, row, n * sizeof(float));
    return;
  }
  MOEOPT_CHECK(kv.layout->dtype == DType::kBF16);
  for (std::size_t i = 0; i < n; ++i) {
    const Bf16 value = to_bf16(row[i]);
    std::memcpy(entry + i * sizeof(value), &value, sizeof(value));
  }
}

std::size_t attention_scratch(const AttentionSpec& spec, int max_context) {
  const int latent =
      spec.kind == AttentionKind::kMla ? 3 * spec.kv_lora_rank + spec.qk_nope_dim : 0;
  return static_cast<std::size_t>(max_context) + static_cast<std::size_t>(latent);
}

void attention_gqa(const float* q, const AttentionSpec& spec, const SequenceRows& sequence,
                   const KvBlocks& kv, float* out, std::span<float> scratch) {
  const DType dtype = kv.layout->dtype;
  const int heads_per_kv = spec.n_heads / spec.n_kv_heads;
  const auto scale = static_cast<float>(spec.softmax_scale);
  for (int r = 0; r < sequence.n_rows; ++r) {
    const std::ptrdiff_t row = sequence.first_row + r;
    const int position = sequence.first_position + r;
    const int first = first_visible(spec, position);
    const int n_visible = position - first + 1;
    const std::span<float> scores = scratch.first(static_cast<std::size_t>(n_visible));
    for (int head = 0; head < spec.n_heads; ++head) {
      const int kv_head = head / heads_per_kv;
      const float* q_head = q + (row * spec.n_heads + head) * spec.qk_head_dim;
      float* out_head = out + (row * spec.n_heads + head) * spec.v_head_dim;
      for (int p = first; p <= position; ++p) {
        const std::byte* key = kv_entry(kv, sequence.block_table, 0, p);
        scores[p - first] =
            scale * dot_entry(q_head, key, dtype, kv_head * spec.qk_head_dim, spec.qk_head_dim);
      }
      softmax(scores);
      std::fill_n(out_head, spec.v_head_dim, 0.0f);
      for (int p = first; p <= position; ++p) {
        const std::byte* value = kv_entry(kv, sequence.block_table, 1, p);
        add_entry(scores[p - first], value, dtype, kv_head * spec.v_head_dim, spec.v_head_dim,
                  out_head);
      }
    }
  }
}

void attention_mla(const float* q, const AttentionSpec& spec, const Matrix& kv_b, bool round_inputs,
                   const SequenceRows& sequence, const KvBlocks& kv, float* out,
                   std::span<float> scratch) {
  const DType dtype = kv.layout->dtype;
  const int rank = spec.kv_lora_rank;
  const auto scale = static_cast<float>(spec.softmax_scale);
  const auto rank_size = static_cast<std::size_t>(rank);
  const auto nope_size = static_cast<std::size_t>(spec.qk_nope_dim);
  const std::span<float> q_latent = scratch.first(rank_size);
  const std::span<float> kv_b_row = scratch.subspan(rank_size, rank_size);
  const std::span<float> out_latent = scratch.subspan(2 * rank_size, rank_size);
  const std::span<float> q_nope = scratch.subspan(3 * rank_size, nope_size);
  const std::span<float> all_scores = scratch.subspan(3 * rank_size + nope_size);

  for (int r = 0; r < sequence.n_rows; ++r) {
    const std::ptrdiff_t row = sequence.first_row + r;
    const int position = sequence.first_position + r;
    const int first = first_visible(spec, position);
    const int n_visible = position - first + 1;
    const auto scores = all_scores.first(static_cast<std::size_t>(n_visible));
    for (int head = 0; head < spec.n_heads; ++head) {
      const float* q_head = q + (row * spec.n_heads + head) * spec.qk_head_dim;
      const int k_rows = head * (spec.qk_nope_dim + spec.v_head_dim);
      const int v_rows = k_rows + spec.qk_nope_dim;

      std::copy_n(q_head, nope_size, q_nope.begin());
      if (round_inputs) round_bf16<float>(q_nope, q_nope);
      std::ranges::fill(q_latent, 0.0f);
      for (int d = 0; d < spec.qk_nope_dim; ++d) {
        widen_row(kv_b, k_rows + d, kv_b_row.data());
        for (int l = 0; l < rank; ++l) q_latent[l] += q_nope[d] * kv_b_row[l];
      }

      for (int p = first; p <= position; ++p) {
        const std::byte* latent = kv_entry(kv, sequence.block_table, 0, p);
        const std::byte* rope = kv_entry(kv, sequence.block_table, 1, p);
        const float score = dot_entry(q_latent.data(), latent, dtype, 0, rank) +
                            dot_entry(q_head + spec.qk_nope_dim, rope, dtype, 0, spec.qk_rope_dim);
        scores[p - first] = scale * score;
      }
      softmax(scores);
      std::ranges::fill(out_latent, 0.0f);
      for (int p = first; p <= position; ++p) {
        const std::byte* latent = kv_entry(kv, sequence.block_table, 0, p);
        add_entry(scores[p - first], latent, dtype, 0, rank, out_latent.data());
      }

      if (round_inputs) round_bf16<float>(out_latent, out_latent);
      float* out_head = out + (row * spec.n_heads + head) * spec.v_head_dim;
      for (int d = 0; d < spec.v_head_dim; ++d) {
        out_head[d] = row_product(kv_b, v_rows + d, out_latent.data());
      }
    }
  }
}

}  // namespace moeopt::cpu::reference
