// Paged attention of every CpuOps of this machine against float64: grouped heads, windows, latent
// attention, several sequences, chunks, any block table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "cpu/ops_under_test.h"
#include "cpu/tensor_data_util.h"

namespace moeopt::cpu {
namespace {

struct TestSequence {
  int length = 0;                    // tokens with keys and values
  int n_rows = 0;                    // the last of them are queries
  std::vector<std::int32_t> blocks;  // a random permutation
};

struct AttentionCase {
  std::string name;
  AttentionSpec spec;
  int block_tokens;
};

AttentionCase gqa(std::string name, int heads, int kv_heads, int dim, int block_tokens,
                  std::optional<int> window = {}) {
  AttentionSpec spec;
  spec.n_heads = heads;
  spec.n_kv_heads = kv_heads;
  spec.qk_head_dim = spec.v_head_dim = dim;
  spec.softmax_scale = 1.3 / std::sqrt(dim);
  spec.sliding_window = window;
  return {std::move(name), spec, block_tokens};
}

AttentionCase mla(std::string name, int heads, int rank, int nope, int rope, int value,
                  int block_tokens) {
  AttentionSpec spec;
  spec.kind = AttentionKind::kMla;
  spec.n_heads = spec.n_kv_heads = heads;
  spec.kv_lora_rank = rank;
  spec.qk_nope_dim = nope;
  spec.qk_rope_dim = rope;
  spec.qk_head_dim = nope + rope;
  spec.v_head_dim = value;
  spec.softmax_scale = 1.1 / std::sqrt(nope + rope);
  return {std::move(name), spec, block_tokens};
}

std::vector<AttentionCase> cases() {
  return {gqa("one head", 1, 1, 64, 16),
          gqa("grouped, odd head", 6, 2, 10, 4),
          gqa("grouped, one token a block", 8, 1, 16, 1),
          gqa("window", 4, 4, 64, 16, 5),
          gqa("window of one", 2, 1, 32, 3, 1),
          gqa("wide", 8, 2, 128, 16),
          mla("latent", 4, 64, 32, 16, 32, 16),
          mla("latent, odd", 3, 20, 12, 6, 10, 5)};
}

class AttentionTable : public testing::TestWithParam<OpsUnderTest> {
 protected:
  AttentionTable() : ops_(GetParam().make()), scratch_(64 << 20) {
    ops_->set_scratch(scratch_.bytes());
  }

  // Fills the cache through write_kv and runs attention; compares with float64 on what was stored.
  void check(const AttentionCase& c, std::vector<TestSequence> sequences);

  Rng rng_{2};
  std::unique_ptr<CpuOps> ops_;
  Buffer scratch_;
};

struct Plane {
  int width;
  std::vector<std::vector<float>> tokens;  // [sequence][length * width]
};

double stored(double value, DType dtype) {
  return dtype == DType::kBF16 ? to_bf16_value(value) : value;
}

double dot(const double* a, const double* b, int n) {
  return std::inner_product(a, a + n, b, 0.0);
}

std::vector<double> softmax(std::vector<double> scores) {
  const double largest = *std::ranges::max_element(scores);
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (double& score : scores) score /= sum;
  return scores;
}

void AttentionTable::check(const AttentionCase& c, std::vector<TestSequence> sequences) {
  SCOPED_TRACE(c.name);
  const AttentionSpec& spec = c.spec;
  const bool is_mla = spec.kind == AttentionKind::kMla;
  KvLayout layout;
  layout.dtype = ops_->kv_dtype();
  layout.block_tokens = c.block_tokens;
  layout.n_layers = 1;
  std::array<Plane, 2> planes{
      {{is_mla ? spec.kv_lora_rank : spec.n_kv_heads * spec.qk_head_dim, {}},
       {is_mla ? spec.qk_rope_dim : spec.n_kv_heads * spec.v_head_dim, {}}}};
  layout.planes = {{"a", planes[0].width}, {"b", planes[1].width}};

  std::vector<std::int32_t> ids(400);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), rng_);
  std::vector<SequenceRows> all_rows, query_rows;
  int rows = 0;
  int taken = 0;
  for (TestSequence& sequence : sequences) {
    const int blocks = (sequence.length + c.block_tokens - 1) / c.block_tokens;
    sequence.blocks.assign(ids.begin() + taken, ids.begin() + taken + blocks);
    taken += blocks;
  }
  Buffer kv(layout.block_bytes() * ids.size());
  std::ranges::fill(kv.as<std::uint16_t>(), std::uint16_t{0x7fc0});  // NaN where nothing is written
  const KvBlocks blocks{&layout, kv.bytes().data()};
  for (int p = 0; p < 2; ++p) {
    for (const TestSequence& sequence : sequences) {
      auto tokens = random_rows(rng_, static_cast<std::size_t>(sequence.length * planes[p].width));
      const SequenceRows place{0, sequence.length, 0, sequence.blocks};
      ops_->write_kv(tokens.data(), {&place, 1}, p, blocks);
      planes[p].tokens.push_back(std::move(tokens));
    }
  }
  for (const TestSequence& sequence : sequences) {
    query_rows.push_back(
        {rows, sequence.n_rows, sequence.length - sequence.n_rows, sequence.blocks});
    rows += sequence.n_rows;
  }

  const StoredMatrix kv_b =
      is_mla
          ? random_matrix(rng_, DType::kBF16, spec.n_heads * (spec.qk_nope_dim + spec.v_head_dim),
                          spec.kv_lora_rank, 0.2)
          : StoredMatrix{};
  const auto q =
      random_rows(rng_, static_cast<std::size_t>(rows * spec.n_heads * spec.qk_head_dim));
  std::vector<float> out(static_cast<std::size_t>(rows * spec.n_heads * spec.v_head_dim), NAN);
  const auto run = [&](std::span<const SequenceRows> which, float* into) {
    if (is_mla) {
      ops_->attention_mla(q.data(), spec, kv_b.matrix, which, blocks, into);
    } else {
      ops_->attention_gqa(q.data(), spec, which, blocks, into);
    }
  };
  run(query_rows, out.data());

  // float64: every head's keys and values written out, MLA's expanded from the latent.
  const bool rounds = GetParam().rounds_inputs;
  std::vector<double> wanted;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const auto token = [&](int plane, int position, int i) {
      const auto at = static_cast<std::size_t>(position * planes[plane].width + i);
      return stored(planes[plane].tokens[s][at], layout.dtype);
    };
    for (int r = 0; r < sequences[s].n_rows; ++r) {
      const int position = query_rows[s].first_position + r;
      for (int head = 0; head < spec.n_heads; ++head) {
        const float* q_head =
            q.data() + ((query_rows[s].first_row + r) * spec.n_heads + head) * spec.qk_head_dim;
        const int kv_head = head / (spec.n_heads / spec.n_kv_heads);
        const int k_rows = head * (spec.qk_nope_dim + spec.v_head_dim);
        std::vector<double> scores;
        std::vector<std::vector<double>> values;
        for (int p = 0; p <= position; ++p) {
          if (spec.sliding_window && position - p >= *spec.sliding_window) continue;
          std::vector<double> key, value;
          if (is_mla) {
            std::vector<double> latent;
            for (int l = 0; l < spec.kv_lora_rank; ++l) latent.push_back(token(0, p, l));
            for (int d = 0; d < spec.qk_nope_dim + spec.v_head_dim; ++d) {
              const double x = dot(&kv_b.values[static_cast<std::size_t>((k_rows + d) * kv_b.in)],
                                   latent.data(), kv_b.in);
              (d < spec.qk_nope_dim ? key : value).push_back(x);
            }
            for (int d = 0; d < spec.qk_rope_dim; ++d) key.push_back(token(1, p, d));
          } else {
            for (int d = 0; d < spec.qk_head_dim; ++d) {
              key.push_back(token(0, p, kv_head * spec.qk_head_dim + d));
              value.push_back(token(1, p, kv_head * spec.v_head_dim + d));
            }
          }
          double score = 0;
          for (int d = 0; d < spec.qk_head_dim; ++d) {
            score +=
                key[static_cast<std::size_t>(d)] *
                (rounds && is_mla && d < spec.qk_nope_dim ? to_bf16_value(q_head[d]) : q_head[d]);
          }
          scores.push_back(score * spec.softmax_scale);
          values.push_back(std::move(value));
        }
        const std::vector<double> weights = softmax(scores);
        for (int d = 0; d < spec.v_head_dim; ++d) {
          double sum = 0;
          for (std::size_t p = 0; p < weights.size(); ++p) {
            sum += weights[p] * values[p][static_cast<std::size_t>(d)];
          }
          wanted.push_back(sum);
        }
      }
    }
  }
  // Where inputs are rounded, queries and weights may be in bf16: 2^-9 each.
  EXPECT_LE(frobenius_error(out, wanted), rounds ? 5e-3 : 3e-6);

  // Each row alone, from the same cache.
  for (const SequenceRows& sequence : query_rows) {
    for (int r = 0; r < sequence.n_rows; ++r) {
      const SequenceRows one{sequence.first_row + r, 1, sequence.first_position + r,
                             sequence.block_table};
      std::vector<float> alone(out.size(), NAN);
      run({&one, 1}, alone.data());
      const int width = spec.n_heads * spec.v_head_dim;
      ASSERT_EQ(
          std::memcmp(alone.data() + one.first_row * width, out.data() + one.first_row * width,
                      static_cast<std::size_t>(width) * sizeof(float)),
          0)
          << "row " << one.first_row;
    }
  }
}

TEST_P(AttentionTable, OneSequence) {
  for (const AttentionCase& c : cases()) check(c, {{37, 37, {}}});
}

TEST_P(AttentionTable, Decode) {
  for (const AttentionCase& c : cases()) check(c, {{1, 1, {}}, {50, 1, {}}, {64, 1, {}}});
}

TEST_P(AttentionTable, ChunksOfSeveral) {
  for (const AttentionCase& c : cases())
    check(c, {{45, 20, {}}, {7, 7, {}}, {33, 1, {}}, {40, 3, {}}});
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTable, testing::ValuesIn(ops_under_test()),
                         [](const auto& ops) { return name_of(ops.param); });

}  // namespace
}  // namespace moeopt::cpu
