// Attention over a paged bf16 cache by every instruction set: against the reference on the same
// cache, and bit by bit however the sequence was cut into steps.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "cpu/fast_util.h"
#include "cpu/reference/attention.h"

namespace moeopt::cpu {
namespace {

struct Shape {
  int heads = 4, key_heads = 2, qk = 64, v = 64, block_tokens = 16;
  std::optional<int> window = std::nullopt;
  int rank = 0, nope = 0, rope = 0;  // MLA when rank > 0
};

ModelSpec spec_of(const Shape& shape) {
  ModelSpec spec = spec_of_width(shape.heads * shape.v);
  spec.layers.resize(1);
  AttentionSpec& a = spec.layers[0].attention;
  a.n_heads = shape.heads;
  a.n_kv_heads = shape.key_heads;
  a.qk_head_dim = shape.qk;
  a.v_head_dim = shape.v;
  a.softmax_scale = 1.0 / std::sqrt(shape.qk);
  a.sliding_window = shape.window;
  if (shape.rank > 0) {
    a.kind = AttentionKind::kMla;
    a.n_kv_heads = shape.heads;
    a.kv_lora_rank = shape.rank;
    a.qk_nope_dim = shape.nope;
    a.qk_rope_dim = shape.rope;
    a.qk_head_dim = shape.nope + shape.rope;
  }
  return spec;
}

// One sequence of `tokens` tokens whose keys and values are in a shuffled cache.
class Sequence {
 public:
  Sequence(const Shape& shape, int tokens, std::uint64_t seed)
      : spec(spec_of(shape)),
        attention(spec.layers[0].attention),
        layout(kv_layout_of(spec, DType::kBF16, shape.block_tokens)),
        n_tokens(tokens) {
    const int blocks = (tokens + shape.block_tokens - 1) / shape.block_tokens;
    table.resize(static_cast<std::size_t>(blocks));
    std::iota(table.begin(), table.end(), 3);
    std::ranges::shuffle(table, std::mt19937(5));
    cache = Buffer(layout.block_bytes() * static_cast<std::size_t>(blocks + 3));
    // What was there before must not show.
    std::ranges::fill(cache.bytes(), std::byte{0x7f});
    const std::vector<float> values = random_floats(1 << 16, seed);
    for (int plane = 0; plane < 2; ++plane) {
      const auto width =
          static_cast<std::size_t>(layout.planes[static_cast<std::size_t>(plane)].elements);
      std::vector<float> row(width);
      for (int p = 0; p < tokens; ++p) {
        for (float& value : row) value = values[next++ % values.size()];
        reference::store_kv(row.data(), kv(), table, plane, p);
      }
    }
    q = random_floats(static_cast<std::size_t>(tokens * attention.n_heads * attention.qk_head_dim),
                      seed + 1);
    if (attention.kind == AttentionKind::kMla) {
      kv_b = std::make_unique<RandomMatrix>(
          attention.n_heads * (attention.qk_nope_dim + attention.v_head_dim),
          attention.kv_lora_rank, kv_b_dtype, seed + 2);
    }
  }

  KvBlocks kv() { return {&layout, cache.bytes().data()}; }
  std::size_t q_width() const {
    return static_cast<std::size_t>(attention.n_heads * attention.qk_head_dim);
  }
  std::size_t out_width() const {
    return static_cast<std::size_t>(attention.n_heads * attention.v_head_dim);
  }

  // Rows [first, first + rows) as one step, placed after `rows_before` rows of others.
  std::vector<float> attend(CpuOps& ops, int first, int rows) {
    std::vector<float> out(static_cast<std::size_t>(rows) * out_width(), -1e30f);
    const SequenceRows step{0, rows, first, table};
    const float* from = q.data() + static_cast<std::size_t>(first) * q_width();
    if (attention.kind == AttentionKind::kMla) {
      ops.attention_mla(from, attention, kv_b->matrix(), {&step, 1}, kv(), out.data());
    } else {
      ops.attention_gqa(from, attention, {&step, 1}, kv(), out.data());
    }
    return out;
  }

  std::vector<float> reference_out() {
    std::vector<float> out(static_cast<std::size_t>(n_tokens) * out_width());
    std::vector<float> scratch(reference::attention_scratch(attention, n_tokens));
    const SequenceRows step{0, n_tokens, 0, table};
    if (attention.kind == AttentionKind::kMla) {
      reference::attention_mla(q.data(), attention, kv_b->matrix(), true, step, kv(), out.data(),
                               scratch);
    } else {
      reference::attention_gqa(q.data(), attention, step, kv(), out.data(), scratch);
    }
    return out;
  }

  static constexpr DType kv_b_dtype = DType::kBF16;
  ModelSpec spec;
  const AttentionSpec& attention;
  KvLayout layout;
  int n_tokens;
  std::vector<std::int32_t> table;
  Buffer cache;
  std::vector<float> q;
  std::unique_ptr<RandomMatrix> kv_b;
  std::size_t next = 0;
};

const Shape kShapes[] = {
    {},
    {.heads = 8, .key_heads = 1, .qk = 128, .v = 128},
    {.heads = 3, .key_heads = 3, .qk = 40, .v = 24, .block_tokens = 5},
    {.heads = 4, .key_heads = 2, .qk = 18, .v = 33, .block_tokens = 32, .window = 21},
    {.heads = 4, .v = 32, .rank = 64, .nope = 32, .rope = 16},
    {.heads = 5, .v = 17, .block_tokens = 7, .rank = 44, .nope = 23, .rope = 10},
};

class FastAttentionTest : public testing::TestWithParam<std::string> {};

TEST_P(FastAttentionTest, MatchesTheReference) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::Message()
                 << shape.heads << " heads of " << shape.qk << ", rank " << shape.rank);
    Sequence sequence(shape, 75, 11);
    OwnedOps owned = fast_ops(2, GetParam(), sequence.spec, 75);
    const std::vector<float> out = sequence.attend(*owned.ops, 0, 75);
    const std::vector<float> reference = sequence.reference_out();
    // AMX rounds queries and weights to bf16; the others round nothing but MLA's inputs of kv_b.
    const double bound = GetParam() == "amx" ? 6e-3 : (shape.rank > 0 ? 1.5e-3 : 2e-6);
    const std::vector<double> wide(reference.begin(), reference.end());
    EXPECT_LE(relative_error(out, wide), bound);
    for (std::size_t r = 0; r < 75; ++r) {
      const std::size_t width = sequence.out_width();
      EXPECT_LE(relative_error(std::span(out).subspan(r * width, width),
                               std::span(wide).subspan(r * width, width)),
                3 * bound)
          << "row " << r;
    }
  }
}

TEST_P(FastAttentionTest, ChunksDoNotShow) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::Message()
                 << shape.heads << " heads of " << shape.qk << ", rank " << shape.rank);
    constexpr int kTokens = 100;
    Sequence sequence(shape, kTokens, 21);
    OwnedOps owned = fast_ops(2, GetParam(), sequence.spec, kTokens);
    const std::vector<float> all = sequence.attend(*owned.ops, 0, kTokens);
    for (const int chunk : {1, 7, 33, 64}) {
      for (int first = 0; first < kTokens; first += chunk) {
        const int rows = std::min(chunk, kTokens - first);
        const std::vector<float> some = sequence.attend(*owned.ops, first, rows);
        ASSERT_EQ(std::memcmp(some.data(),
                              all.data() + static_cast<std::size_t>(first) * sequence.out_width(),
                              some.size() * sizeof(float)),
                  0)
            << "chunks of " << chunk << ", from " << first;
      }
    }
  }
}

TEST_P(FastAttentionTest, SequencesAndThreadsDoNotShow) {
  Sequence sequence(kShapes[1], 90, 31);
  OwnedOps one = fast_ops(1, GetParam(), sequence.spec, 90);
  const std::vector<float> expected = sequence.attend(*one.ops, 0, 90);
  const std::size_t q_width = sequence.q_width();
  const std::size_t out_width = sequence.out_width();
  // Rows 80-89, then row 40, then rows 0-4, as three sequences of one step.
  const SequenceRows steps[] = {
      {0, 10, 80, sequence.table}, {10, 1, 40, sequence.table}, {11, 5, 0, sequence.table}};
  for (const int threads : {1, 2, 7}) {
    OwnedOps owned = fast_ops(threads, GetParam(), sequence.spec, 90);
    std::vector<float> q(16 * q_width);
    std::vector<float> out(16 * out_width);
    for (const SequenceRows& step : steps) {
      std::copy_n(sequence.q.begin() + step.first_position * static_cast<std::ptrdiff_t>(q_width),
                  static_cast<std::size_t>(step.n_rows) * q_width,
                  q.begin() + step.first_row * static_cast<std::ptrdiff_t>(q_width));
    }
    owned.ops->attention_gqa(q.data(), sequence.attention, steps, sequence.kv(), out.data());
    for (const SequenceRows& step : steps) {
      EXPECT_EQ(
          std::memcmp(out.data() + static_cast<std::size_t>(step.first_row) * out_width,
                      expected.data() + static_cast<std::size_t>(step.first_position) * out_width,
                      static_cast<std::size_t>(step.n_rows) * out_width * sizeof(float)),
          0)
          << threads << " threads, position " << step.first_position;
    }
  }
}

TEST_P(FastAttentionTest, LargeScoresStayFinite) {
  Sequence sequence({}, 70, 41);
  for (float& value : sequence.q) value *= 100;
  OwnedOps owned = fast_ops(1, GetParam(), sequence.spec, 70);
  const std::vector<float> out = sequence.attend(*owned.ops, 0, 70);
  for (const float value : out) ASSERT_TRUE(std::isfinite(value) && std::fabs(value) < 10);
}

INSTANTIATE_TEST_SUITE_P(Isas, FastAttentionTest, testing::ValuesIn(isas()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace moeopt::cpu
