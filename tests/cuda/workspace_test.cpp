// The size of a workspace, which is stated before anything is allocated.
#include "cuda/moe/workspace.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace moeopt::cuda::moe {
namespace {

struct Layer {
  const char* name;
  int hidden, intermediate, experts, top_k, shared_intermediate;
};

constexpr Layer kLayers[] = {
    {"qwen3", 2048, 768, 128, 8, 0},      {"mixtral", 4096, 14336, 8, 2, 0},
    {"dsv3", 7168, 2048, 32, 8, 0},       {"dsv3 whole", 7168, 2048, 256, 8, 2048},
    {"qwen1.5", 2048, 1408, 60, 4, 5632}, {"one expert", 1024, 1024, 1, 1, 0},
};

Shape shape_of(const Layer& layer, Dtype dtype, int tokens) {
  Shape shape;
  shape.hidden = layer.hidden;
  shape.intermediate = layer.intermediate;
  shape.experts = shape.slots = layer.experts;
  shape.top_k = layer.top_k;
  shape.max_tokens = tokens;
  shape.dtype = dtype;
  shape.shared_intermediate = layer.shared_intermediate;
  return shape;
}

// Per row of work: x gathered, h and y, in bf16; the shared expert's rows likewise.
TEST(Workspace, IsWithinItsBound) {
  constexpr double kConstant = 64e6;
  for (const Layer& layer : kLayers) {
    for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp8}) {
      for (const int tokens : {1, 64, 512, 1024, 2048, 4096, 8192, 16384}) {
        const Shape shape = shape_of(layer, dtype, tokens);
        const double rows = 1.0 * tokens * layer.top_k;
        double bound = rows * (2.0 * layer.hidden + layer.intermediate) * 2 + kConstant;
        if (shape.shared()) {
          bound += 1.0 * tokens * (2.0 * layer.hidden + layer.shared_intermediate) * 2;
        }
        const WorkspaceLayout w = workspace_layout(shape, choose_config(shape));
        EXPECT_LE(static_cast<double>(w.bytes), bound) << layer.name << " " << tokens;
      }
    }
  }
}

// What a caller with a control of its own allocates for a call serves any smaller call, too: also
// where h and y become words of the control, and where the lists leave it.
TEST(Workspace, WithoutItsControlItGrowsWithTheTokens) {
  for (const Layer& layer : kLayers) {
    for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp8}) {
      std::uint64_t before = 0;
      for (int tokens = 1; tokens <= 16384; tokens += tokens < 1200 ? 1 : 331) {
        const Shape shape = shape_of(layer, dtype, tokens);
        const WorkspaceLayout w = workspace_layout(shape, choose_config(shape));
        ASSERT_GE(w.bytes - w.control_bytes, before) << layer.name << " " << tokens;
        before = w.bytes - w.control_bytes;
      }
    }
  }
}

TEST(Workspace, NumbersOfLaunchesComeRound) {
  for (const std::uint32_t number : {0u, 1u, 7u, 0xfffffffcu, 0xfffffffdu, 0xfffffffeu}) {
    const std::uint32_t next = number_after(number);
    EXPECT_NE(next & 1, number & 1) << number << ": counter sets take turns";
    EXPECT_NE(next, number);
    EXPECT_NE(next + 1, 0u) << number << ": the tag of words that nobody wrote";
  }
  EXPECT_EQ(number_after(41), 42u);
}

// An expert's tiles in images never meet the next expert's.
TEST(Workspace, ImagesOfExpertsDoNotOverlap) {
  int rows_before = 0;
  for (int slot = 0; slot < 512; ++slot) {
    const int rows = (slot * 37) % 131;
    const int end = image_row(rows_before, slot) + image_rows(rows);
    rows_before += rows;
    EXPECT_LE(end, image_row(rows_before, slot + 1)) << slot;
    EXPECT_LE(end, image_rows(rows_before) + kImageRows * (slot + 1));
  }
}

}  // namespace
}  // namespace moeopt::cuda::moe
