#include "cpu/fast/attention.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace moeopt::cpu::fast {
namespace {

std::size_t product(int a, int b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

// Each member's memory for Kernels::attention.
class AttentionScratch {
 public:
  AttentionScratch(Carver& carver, const Team& team, int key_width, int value_width)
      : stride_((team.kernels.attention_scratch_bytes(key_width, value_width) + 63) / 64 * 64),
        memory_(carver.take<std::byte>(static_cast<std::size_t>(team.pool.threads()) * stride_)) {}

  void* of(int member) const { return memory_ + static_cast<std::size_t>(member) * stride_; }

 private:
  std::size_t stride_;
  std::byte* memory_;
};

// Queries are [rows, heads] with heads_per_key consecutive heads on each key head.
struct HeadLayout {
  int heads = 0;
  int key_heads = 0;
  int query_width = 0;                     // floats of one head in q
  int out_width = 0;                       // and in out
  std::size_t key_head_bytes[2] = {0, 0};  // from one key head to the next, of each key part
  std::size_t value_head_bytes = 0;

  int heads_per_key() const { return heads / key_heads; }
};

struct WorkItem {
  const SequenceRows* sequence = nullptr;
  int key_head = 0;
  int first_query = 0;  // of the sequence's rows * heads_per_key
};

int runs_of(const SequenceRows& sequence, const HeadLayout& layout) {
  return (sequence.n_rows * layout.heads_per_key() + kMaxQueries - 1) / kMaxQueries;
}

WorkItem item_at(std::span<const SequenceRows> sequences, const HeadLayout& layout, int index) {
  for (const SequenceRows& sequence : sequences) {
    const int items = runs_of(sequence, layout) * layout.key_heads;
    // The last runs see the most positions: they go first, so that no thread ends long after.
    if (index < items) {
      const int run = runs_of(sequence, layout) - 1 - index / layout.key_heads;
      return {&sequence, index % layout.key_heads, run * kMaxQueries};
    }
    index -= items;
  }
  return {};
}

void attend(const Team& team, const float* q, const AttentionSpec& spec, const HeadLayout& layout,
            PagedKeys keys, const WorkItem& item, float* out, void* scratch) {
  const SequenceRows& sequence = *item.sequence;
  const int per_key = layout.heads_per_key();
  const int n = std::min(kMaxQueries, sequence.n_rows * per_key - item.first_query);
  std::array<Query, kMaxQueries> queries;
  for (int i = 0; i < n; ++i) {
    const int row = (item.first_query + i) / per_key;
    const int head = item.key_head * per_key + (item.first_query + i) % per_key;
    const int position = sequence.first_position + row;
    const std::size_t index =
        product(sequence.first_row + row, layout.heads) + static_cast<std::size_t>(head);
    Query& query = queries[static_cast<std::size_t>(i)];
    query.q = q + index * static_cast<std::size_t>(layout.query_width);
    query.out = out + index * static_cast<std::size_t>(layout.out_width);
    query.end = position + 1;
    query.begin = spec.sliding_window ? std::max(0, query.end - *spec.sliding_window) : 0;
  }
  const auto head = static_cast<std::size_t>(item.key_head);
  for (int part = 0; part < keys.key_parts; ++part) {
    keys.key_offset_bytes[part] += head * layout.key_head_bytes[part];
  }
  keys.value_offset_bytes += head * layout.value_head_bytes;
  keys.block_table = sequence.block_table.data();
  team.kernels.attention(keys, queries.data(), n, static_cast<float>(spec.softmax_scale), scratch);
}

void attend_all(const Team& team, const float* q, const AttentionSpec& spec,
                const HeadLayout& layout, const PagedKeys& keys,
                std::span<const SequenceRows> sequences, float* out,
                const AttentionScratch& scratch) {
  int items = 0;
  for (const SequenceRows& sequence : sequences) {
    items += runs_of(sequence, layout) * layout.key_heads;
  }
  team.pool.for_each(items, [&](int i, int member) {
    attend(team, q, spec, layout, keys, item_at(sequences, layout, i), out, scratch.of(member));
  });
}

PagedKeys paged(const KvBlocks& kv) {
  MOEOPT_CHECK(kv.layout->dtype == DType::kBF16);
  PagedKeys keys;
  keys.data = reinterpret_cast<const unsigned char*>(kv.data);
  keys.block_bytes = kv.layout->block_bytes();
  keys.block_tokens = kv.layout->block_tokens;
  return keys;
}

std::size_t entry_bytes(const KvBlocks& kv, int plane) {
  return static_cast<std::size_t>(kv.layout->planes[static_cast<std::size_t>(plane)].elements) *
         sizeof(Bf16);
}

void add_key_part(PagedKeys& keys, const KvBlocks& kv, int plane, int width) {
  keys.key_width[keys.key_parts] = width;
  keys.key_offset_bytes[keys.key_parts] = kv.layout->plane_offset_bytes(plane);
  keys.key_stride_bytes[keys.key_parts] = entry_bytes(kv, plane);
  ++keys.key_parts;
}

void set_value(PagedKeys& keys, const KvBlocks& kv, int plane, int width) {
  keys.value_width = width;
  keys.value_offset_bytes = kv.layout->plane_offset_bytes(plane);
  keys.value_stride_bytes = entry_bytes(kv, plane);
}

int rows_of(std::span<const SequenceRows> sequences) {
  int rows = 0;
  for (const SequenceRows& sequence : sequences) {
    rows = std::max(rows, sequence.first_row + sequence.n_rows);
  }
  return rows;
}

// MLA's queries in the latent space, and what attention returns there.
struct MlaScratch {
  MlaScratch(Carver& carver, const Team& team, const AttentionSpec& spec, int rows)
      : query_width(spec.kv_lora_rank + spec.qk_rope_dim),
        tile_bytes(std::max(team.kernels.packed_tile_bytes(Packing::kExact, spec.kv_lora_rank),
                            team.kernels.packed_tile_bytes(Packing::kPairs, spec.kv_lora_rank))),
        attention(carver, team, query_width, spec.kv_lora_rank),
        products(carver, team.pool.threads(), spec.kv_lora_rank),
        nope(carver.take<float>(product(team.pool.threads(), spec.qk_nope_dim))),
        packed(carver.take<std::byte>(static_cast<std::size_t>(team.pool.threads()) *
                                      (kBlockRows / kTileRows) * tile_bytes)),
        queries(carver.take<float>(product(rows * spec.n_heads, query_width))),
        latents(carver.take<float>(product(rows * spec.n_heads, spec.kv_lora_rank))) {}

  int query_width;
  std::size_t tile_bytes;
  AttentionScratch attention;
  ProductScratch products;
  float* nope;        // [threads, qk_nope_dim]
  std::byte* packed;  // [threads, kBlockRows]
  float* queries;     // [rows, heads, kv_lora_rank + qk_rope_dim]
  float* latents;     // [rows, heads, kv_lora_rank]
};

// out = sum over i of c[i] * w[first + i], rows of kv_b, each product scaled as its block is.
void absorb(const Team& team, const Matrix& w, int first, std::span<const float> c, float* out) {
  const WeightKind kind = kind_of(w);
  const std::size_t element = dtype_bytes(w.weight.dtype);
  const std::size_t stride = static_cast<std::size_t>(w.in()) * element;
  const auto* data = reinterpret_cast<const unsigned char*>(w.weight.data);
  const bool scaled = kind == WeightKind::kE4m3;
  const int n = static_cast<int>(c.size());
  const int column_step = scaled ? kScaleBlock : w.in();
  std::fill_n(out, w.in(), 0.0f);
  for (int column = 0; column < w.in(); column += column_step) {
    const int width = std::min(column_step, w.in() - column);
    for (int i = 0; i < n;) {
      const int row = first + i;
      const int count = scaled ? std::min(n - i, kScaleBlock - row % kScaleBlock) : n;
      const float scale = scaled ? scale_at(w, row, column) : 1.0f;
      team.kernels.weighted_sum(kind,
                                data + static_cast<std::size_t>(row) * stride +
                                    static_cast<std::size_t>(column) * element,
                                stride, c.data() + i, count, width, scale, out + column);
      i += count;
    }
  }
}

// Queries into the latent space: [K_h^T q_nope, q_rope].
void absorb_queries(const Team& team, const float* q, const AttentionSpec& spec, const Matrix& kv_b,
                    int rows, const MlaScratch& scratch) {
  const bool rounds = rounds_inputs(kv_b);
  team.pool.for_each(rows * spec.n_heads, [&](int i, int member) {
    const int head = i / rows;  // a head's rows one after the other: they share its matrix
    const std::size_t index = product(i % rows, spec.n_heads) + static_cast<std::size_t>(head);
    const float* from = q + index * static_cast<std::size_t>(spec.qk_head_dim);
    float* to = scratch.queries + index * static_cast<std::size_t>(scratch.query_width);
    float* nope = scratch.nope + product(member, spec.qk_nope_dim);
    for (int d = 0; d < spec.qk_nope_dim; ++d) {
      nope[d] = rounds ? round_to_bf16(from[d]) : from[d];
    }
    absorb(team, kv_b, head * (spec.qk_nope_dim + spec.v_head_dim),
           {nope, static_cast<std::size_t>(spec.qk_nope_dim)}, to);
    std::copy_n(from + spec.qk_nope_dim, spec.qk_rope_dim, to + spec.kv_lora_rank);
  });
}

// out[row, head] = V_h latent, V_h the head's last v_head_dim rows of kv_b.
void project_values(const Team& team, const AttentionSpec& spec, const Matrix& kv_b, int rows,
                    const MlaScratch& scratch, float* out) {
  const WeightKind kind = kind_of(kv_b);
  const Packing packing = packing_for(kind, rounds_inputs(kv_b));
  const std::size_t tile_bytes = team.kernels.packed_tile_bytes(packing, spec.kv_lora_rank);
  const int blocks = (rows + kBlockRows - 1) / kBlockRows;
  team.pool.for_each(spec.n_heads * blocks, [&](int i, int member) {
    const int head = i / blocks;
    const int first_row = i % blocks * kBlockRows;
    const int n = std::min(kBlockRows, rows - first_row);
    std::byte* packed = scratch.packed + static_cast<std::size_t>(member) *
                                             (kBlockRows / kTileRows) * scratch.tile_bytes;
    for (int tile = 0; tile < tiles_of_rows(n); ++tile) {
      std::array<const float*, kTileRows> inputs;
      const int in_tile = std::min(kTileRows, n - tile * kTileRows);
      for (int r = 0; r < in_tile; ++r) {
        const std::size_t index = product(first_row + tile * kTileRows + r, spec.n_heads) +
                                  static_cast<std::size_t>(head);
        inputs[static_cast<std::size_t>(r)] =
            scratch.latents + index * static_cast<std::size_t>(spec.kv_lora_rank);
      }
      team.kernels.pack_tile(packing, inputs.data(), in_tile, spec.kv_lora_rank,
                             packed + static_cast<std::size_t>(tile) * tile_bytes);
    }
    const int begin = head * (spec.qk_nope_dim + spec.v_head_dim) + spec.qk_nope_dim;
    const int end = begin + spec.v_head_dim;
    float* to = out + (product(first_row, spec.n_heads) + static_cast<std::size_t>(head)) *
                          static_cast<std::size_t>(spec.v_head_dim);
    for (int row = begin; row < end;) {
      const Strip strip = strip_at(kv_b, row, end, scratch.products.scales(member));
      team.kernels.product(packing, kind, strip, packed, n, to + (row - begin),
                           product(spec.n_heads, spec.v_head_dim), scratch.products.product(member),
                           {});
      row += strip.features;
    }
  });
}

}  // namespace

std::size_t attention_scratch_bytes(const Team& team, const AttentionSpec& spec, int max_rows) {
  Carver carver;
  if (spec.kind == AttentionKind::kMla) {
    const MlaScratch scratch(carver, team, spec, max_rows);
  } else {
    const AttentionScratch scratch(carver, team, spec.qk_head_dim, spec.v_head_dim);
  }
  return carver.used_bytes();
}

void attention_gqa(const Team& team, const float* q, const AttentionSpec& spec,
                   std::span<const SequenceRows> sequences, const KvBlocks& kv, float* out,
                   std::span<std::byte> scratch) {
  Carver carver(scratch);
  const AttentionScratch members(carver, team, spec.qk_head_dim, spec.v_head_dim);
  PagedKeys keys = paged(kv);
  add_key_part(keys, kv, 0, spec.qk_head_dim);
  set_value(keys, kv, 1, spec.v_head_dim);
  HeadLayout layout;
  layout.heads = spec.n_heads;
  layout.key_heads = spec.n_kv_heads;
  layout.query_width = spec.qk_head_dim;
  layout.out_width = spec.v_head_dim;
  layout.key_head_bytes[0] = static_cast<std::size_t>(spec.qk_head_dim) * sizeof(Bf16);
  layout.value_head_bytes = static_cast<std::size_t>(spec.v_head_dim) * sizeof(Bf16);
  attend_all(team, q, spec, layout, keys, sequences, out, members);
}

void attention_mla(const Team& team, const float* q, const AttentionSpec& spec, const Matrix& kv_b,
                   std::span<const SequenceRows> sequences, const KvBlocks& kv, float* out,
                   std::span<std::byte> scratch_memory) {
  const int rows = rows_of(sequences);
  Carver carver(scratch_memory);
  const MlaScratch scratch(carver, team, spec, rows);
  absorb_queries(team, q, spec, kv_b, rows, scratch);

  PagedKeys keys = paged(kv);
  add_key_part(keys, kv, 0, spec.kv_lora_rank);
  add_key_part(keys, kv, 1, spec.qk_rope_dim);
  set_value(keys, kv, 0, spec.kv_lora_rank);
  HeadLayout layout;
  layout.heads = spec.n_heads;
  layout.key_heads = 1;
  layout.query_width = scratch.query_width;
  layout.out_width = spec.kv_lora_rank;
  attend_all(team, scratch.queries, spec, layout, keys, sequences, scratch.latents,
             scratch.attention);
  project_values(team, spec, kv_b, rows, scratch, out);
}

}  // namespace moeopt::cpu::fast
