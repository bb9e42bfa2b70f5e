#include "plan/sharding.h"

#include <fmt/format.h>

#include "checkpoint/fp8_blocks.h"

namespace moeopt {
namespace {

// Whether `extent` splits in equal parts, for fp8 in whole scale blocks.
bool splits(std::int64_t extent, int ranks, bool quantised) {
  return extent % ranks == 0 && (!quantised || (extent / ranks) % kFp8BlockSize == 0);
}

std::int64_t mlp_width(const ModelSpec& spec, const WeightSpec& weight) {
  const LayerSpec& layer = spec.layers[static_cast<std::size_t>(weight.layer)];
  return layer.moe ? layer.moe->shared_intermediate : layer.dense_intermediate;
}

enum class Cut { kNone, kRows, kColumns, kVocabulary, kKvRows };

Cut cut_of(const ModelSpec& spec, const WeightSpec& weight, int ranks) {
  switch (weight.role) {
    case WeightRole::kEmbedding:
    case WeightRole::kLmHead:
      return Cut::kVocabulary;
    case WeightRole::kQ:
    case WeightRole::kQBias:
    case WeightRole::kQB:
    case WeightRole::kKvB:
      return Cut::kRows;
    case WeightRole::kK:
    case WeightRole::kV:
    case WeightRole::kKBias:
    case WeightRole::kVBias:
      return Cut::kKvRows;
    case WeightRole::kO:
      return Cut::kColumns;
    case WeightRole::kDenseGate:
    case WeightRole::kDenseUp:
    case WeightRole::kSharedGate:
    case WeightRole::kSharedUp:
      return splits(mlp_width(spec, weight), ranks, weight.quantised) ? Cut::kRows : Cut::kNone;
    case WeightRole::kDenseDown:
    case WeightRole::kSharedDown:
      return splits(mlp_width(spec, weight), ranks, weight.quantised) ? Cut::kColumns : Cut::kNone;
    default:
      return Cut::kNone;
  }
}

Shape with_extent(const Shape& shape, std::size_t axis, std::int64_t extent) {
  std::vector<std::int64_t> extents(shape.extents().begin(), shape.extents().end());
  extents[axis] = extent;
  return Shape(extents);
}

// The first head-wise matrix of `a` whose parts would cut an fp8 scale block.
std::optional<std::string> against_blocks(const AttentionSpec& a, int ranks) {
  struct Matrix {
    const char* name;
    std::int64_t rows;  // of one rank
  };
  const std::int64_t heads = a.n_heads / ranks;
  const bool is_mla = a.kind == AttentionKind::kMla;
  const std::int64_t kv_heads = is_mla ? 0 : kv_heads_per_rank(a, ranks);
  const Matrix matrices[] = {
      {"q", heads * a.qk_head_dim},   {"k", kv_heads * a.qk_head_dim},
      {"v", kv_heads * a.v_head_dim}, {"kv_b", is_mla ? heads * (a.qk_nope_dim + a.v_head_dim) : 0},
      {"o", heads * a.v_head_dim},
  };
  for (const Matrix& matrix : matrices) {
    if (matrix.rows % kFp8BlockSize != 0) {
      return fmt::format("{} rows of {} a GPU cut an fp8 block of {}", matrix.rows, matrix.name,
                         kFp8BlockSize);
    }
  }
  return std::nullopt;
}

}  // namespace

int kv_heads_per_rank(const AttentionSpec& attention, int ranks) {
  return attention.n_kv_heads % ranks == 0 ? attention.n_kv_heads / ranks : 1;
}

std::optional<std::string> against_ranks(const ModelSpec& spec, int ranks) {
  if (ranks == 1) return std::nullopt;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    if (layer.moe && layer.moe->n_experts % ranks != 0) {
      return fmt::format("{} experts do not divide by {}", layer.moe->n_experts, ranks);
    }
    if (a.n_heads % ranks != 0) {
      return fmt::format("{} attention heads do not divide by {}", a.n_heads, ranks);
    }
    if (a.kind == AttentionKind::kGqa && a.n_kv_heads % ranks != 0 && ranks % a.n_kv_heads != 0) {
      return fmt::format("{} KV heads do not divide by {}", a.n_kv_heads, ranks);
    }
    if (spec.quantisation == Quantisation::kFp8Block128) {
      if (auto against = against_blocks(a, ranks)) return against;
    }
  }
  return std::nullopt;
}

std::vector<int> working_rank_counts(const ModelSpec& spec, int most) {
  std::vector<int> counts;
  for (int ranks = 1; ranks <= most; ++ranks) {
    if (!against_ranks(spec, ranks)) counts.push_back(ranks);
  }
  return counts;
}

WeightShard shard_of(const ModelSpec& spec, const WeightSpec& weight, int ranks) {
  if (ranks == 1) return {weight.shape, "as stored"};
  const std::int64_t rows = weight.shape[0];
  switch (cut_of(spec, weight, ranks)) {
    case Cut::kNone:
      return {weight.shape, weight.expert >= 0 ? "as stored, on one rank" : "as stored, on each"};
    case Cut::kRows:
      return {with_extent(weight.shape, 0, rows / ranks), fmt::format("rows, 1/{}", ranks)};
    case Cut::kVocabulary:
      return {with_extent(weight.shape, 0, (rows + ranks - 1) / ranks),
              fmt::format("rows of the vocabulary, 1/{}", ranks)};
    case Cut::kColumns:
      return {with_extent(weight.shape, 1, weight.shape[1] / ranks),
              fmt::format("columns, 1/{}", ranks)};
    case Cut::kKvRows: {
      const AttentionSpec& a = spec.layers[static_cast<std::size_t>(weight.layer)].attention;
      const int heads = kv_heads_per_rank(a, ranks);
      return {with_extent(weight.shape, 0, rows / a.n_kv_heads * heads),
              fmt::format("rows, {} of {} KV heads", heads, a.n_kv_heads)};
    }
  }
  return {weight.shape, "as stored"};
}

}  // namespace moeopt
