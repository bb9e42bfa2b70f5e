// The configuration is a function of the shape: a table of the layers that the benchmarks judge.
#include "cuda/moe/config.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace moeopt::cuda::moe {
namespace {

struct Row {
  const char* layer;
  int hidden, intermediate, experts, top_k;
  int max_tokens;
  Dtype dtype;
  const char* config;
};

constexpr Dtype kB = Dtype::kBf16;
constexpr Dtype kF = Dtype::kFp8;

constexpr Row kTable[] = {
    {"qwen3", 2048, 768, 128, 8, 1, kB, "bf16 m128 n8 words"},
    {"qwen3", 2048, 768, 128, 8, 4, kB, "bf16 m128 n8 words"},
    {"qwen3", 2048, 768, 128, 8, 8, kB, "bf16 m128 n8 words"},
    {"qwen3", 2048, 768, 128, 8, 64, kB, "bf16 m128 n32 local-lists"},
    {"qwen3", 2048, 768, 128, 8, 128, kB, "bf16 m128 n32"},
    {"qwen3", 2048, 768, 128, 8, 256, kB, "bf16 m256 n64"},
    {"qwen3", 2048, 768, 128, 8, 512, kB, "bf16 m256 n128"},
    {"qwen3", 2048, 768, 128, 8, 4096, kB, "bf16 m256 n128"},
    {"qwen3", 2048, 768, 128, 8, 1, kF, "fp8 m128 n8 words"},
    {"qwen3", 2048, 768, 128, 8, 512, kF, "fp8 m256 n128"},
    {"mixtral", 4096, 14336, 8, 2, 1, kB, "bf16 m128 n8 words"},
    {"mixtral", 4096, 14336, 8, 2, 8, kB, "bf16 m128 n8 words"},
    {"mixtral", 4096, 14336, 8, 2, 64, kB, "bf16 m256 n64 local-lists"},
    {"mixtral", 4096, 14336, 8, 2, 512, kB, "bf16 m256 n128"},
    {"mixtral", 4096, 14336, 8, 2, 512, kF, "fp8 m256 n128"},
    {"mixtral", 4096, 14336, 8, 2, 1, kF, "fp8 m128 n8 words"},
    {"mixtral", 4096, 14336, 8, 2, 2, kF, "fp8 m128 n8 words"},
    {"mixtral", 4096, 14336, 8, 2, 8, kF, "fp8 m256/128 n32 local-lists"},
    {"mixtral", 4096, 14336, 8, 2, 48, kF, "fp8 m256/128 n32 local-lists"},
    {"mixtral, more experts", 4096, 14336, 16, 2, 8, kF, "fp8 m256 n32 local-lists"},
    {"dsv3", 7168, 2048, 32, 8, 64, kF, "fp8 m256 n64 local-lists"},
    {"one expert", 64, 64, 1, 1, 65536, kB, "bf16 m256 n128"},
    // Where the choice turns: 12 and 28 rows an expert, 8 tokens, 512 choices.
    {"12 rows", 256, 256, 16, 4, 48, kB, "bf16 m128 n32 local-lists"},
    {"12 rows and a bit", 256, 256, 16, 4, 49, kB, "bf16 m256 n64 local-lists"},
    {"28 rows", 256, 256, 16, 4, 112, kB, "bf16 m256 n64 local-lists"},
    {"28 rows and a bit", 256, 256, 16, 4, 113, kB, "bf16 m256 n128"},
    {"12 rows", 256, 256, 16, 4, 48, kF, "fp8 m256 n32 local-lists"},
    {"12 rows and a bit", 256, 256, 16, 4, 49, kF, "fp8 m256 n64 local-lists"},
    {"28 rows and a bit", 256, 256, 16, 4, 113, kF, "fp8 m256 n128"},
    {"32 choices", 256, 256, 64, 4, 8, kB, "bf16 m128 n8 words"},
    {"40 choices", 256, 256, 64, 5, 8, kB, "bf16 m128 n8 words"},
    {"512 choices", 256, 256, 64, 8, 64, kB, "bf16 m128 n32 local-lists"},
    {"520 choices", 256, 256, 64, 8, 65, kB, "bf16 m128 n32"},
    {"9 tokens", 256, 256, 64, 1, 9, kB, "bf16 m128 n32 local-lists"},
};

Shape shape_of(const Row& row) {
  Shape shape;
  shape.hidden = row.hidden;
  shape.intermediate = row.intermediate;
  shape.experts = row.experts;
  shape.top_k = row.top_k;
  shape.slots = row.experts;
  shape.max_tokens = row.max_tokens;
  shape.dtype = row.dtype;
  return shape;
}

TEST(Config, ASharedExpertWantsWideTilesSooner) {
  Shape shape = shape_of({"qwen15", 2048, 1408, 60, 4, 256, kB, ""});
  EXPECT_EQ(choose_config(shape).name(), "bf16 m256 n64");
  shape.shared_intermediate = 5632;
  EXPECT_EQ(choose_config(shape).name(), "bf16 m256 n128");
  shape.max_tokens = 65;
  EXPECT_EQ(choose_config(shape).name(), "bf16 m256 n128");
  shape.max_tokens = 64;
  EXPECT_EQ(choose_config(shape).name(), "bf16 m128 n32 local-lists");
}

TEST(Config, WordsAreForFewTokens) {
  Shape shape = shape_of({"qwen3", 2048, 768, 128, 8, 8, kB, ""});
  EXPECT_TRUE(choose_config(shape).few());
  shape.max_tokens = 9;
  EXPECT_FALSE(choose_config(shape).few());
  // In fp8 who reads h quantises it: four tokens, and two where rows are many.
  shape.dtype = kF;
  shape.max_tokens = 4;
  EXPECT_TRUE(choose_config(shape).few());
  shape.max_tokens = 5;
  EXPECT_FALSE(choose_config(shape).few());
  shape.max_tokens = 3;
  shape.experts = shape.slots = 16;
  EXPECT_FALSE(choose_config(shape).few());
  shape.max_tokens = 2;
  EXPECT_TRUE(choose_config(shape).few());
  // A shared expert's rows are all tokens.
  shape.dtype = kB;
  shape.shared_intermediate = 1024;
  EXPECT_TRUE(choose_config(shape).few());
  shape.max_tokens = 3;
  EXPECT_FALSE(choose_config(shape).few());
}

TEST(Config, ATileThatIsAskedForIsTaken) {
  Shape shape = shape_of({"qwen3", 2048, 768, 128, 8, 4096, kB, ""});
  shape.tile_tokens = 32;
  EXPECT_EQ(choose_config(shape).name(), "bf16 m128 n32");
  EXPECT_FALSE(choose_config(shape).gathers);
  shape.max_tokens = 1;
  EXPECT_EQ(choose_config(shape).name(), "bf16 m128 n32 local-lists");
  shape.tile_tokens = 128;
  EXPECT_EQ(choose_config(shape).name(), "bf16 m256 n128");
}

// As many blocks as there are share a token's columns, down to about one trip's.
TEST(Config, ColumnsOfACombination) {
  const auto columns = [](int hidden, int tokens, int tile) {
    Shape shape = shape_of({"", hidden, 2048, 32, 8, tokens, kF, ""});
    shape.tile_tokens = tile;
    return choose_config(shape).combine_columns;
  };
  EXPECT_EQ(columns(2048, 16, 32), 2048);
  EXPECT_EQ(columns(4096, 66, 64), 2048);
  EXPECT_EQ(columns(4096, 67, 64), 4096);
  EXPECT_EQ(columns(7168, 8, 32), 1792);
  EXPECT_EQ(columns(7168, 44, 32), 2392);  // three parts, in pieces of eight
  EXPECT_EQ(columns(7168, 64, 64), 3584);
  EXPECT_EQ(columns(7168, 129, 64), 7168);
  EXPECT_EQ(columns(7168, 8, 128), 7168);
  EXPECT_EQ(columns(7168, 8, 8), 512);
}

TEST(Config, Table) {
  for (const Row& row : kTable) {
    EXPECT_EQ(choose_config(shape_of(row)).name(), row.config)
        << row.layer << " " << row.max_tokens;
  }
}

TEST(Config, GateTasksAreWithinTheKernelsLimits) {
  for (int experts = 1; experts <= 512; experts += 7) {
    for (int tokens : {1, 2, 8, 9, 64, 65, 512, 513, 1100, 2048, 4096, 65536}) {
      Shape shape;
      shape.hidden = 256;
      shape.intermediate = 256;
      shape.experts = experts;
      shape.top_k = 1;
      shape.slots = experts;
      shape.max_tokens = tokens;
      const Config config = choose_config(shape);
      const bool wide = config.gate_rows > kGateRows;
      EXPECT_EQ(wide, config.images() && tokens > 512);
      const std::pair tile{config.gate_tokens, config.gate_rows};
      if (wide) {
        EXPECT_TRUE(tile.first == 16 || tile.first == 32 || tile.first == 64) << tile.first;
        EXPECT_TRUE(tile.second == 64 || tile.second == 128) << tile.second;
      } else {
        EXPECT_TRUE(tile.first == 32 || (tile.first == 8 && !config.images())) << tile.first;
        EXPECT_GE(tile.second, 1);
      }
      EXPECT_TRUE(!config.few() || tokens <= kFewTokens);
    }
  }
}

}  // namespace
}  // namespace moeopt::cuda::moe
