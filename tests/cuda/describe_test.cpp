// Every limit of moeopt_moe_desc: the last value inside passes, the first outside is refused in
// words.
#include "cuda/moe/describe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "cuda/moe/refusal.h"

namespace moeopt::cuda::moe {
namespace {

moeopt_moe_desc qwen3() {
  moeopt_moe_desc desc{};
  desc.struct_size = sizeof(desc);
  desc.hidden = 2048;
  desc.intermediate = 768;
  desc.experts = 128;
  desc.top_k = 8;
  desc.max_tokens = 512;
  desc.dtype = MOEOPT_BF16;
  desc.score = MOEOPT_SOFTMAX;
  desc.renormalise = 1;
  return desc;
}

moeopt_moe_desc deepseek_v3() {
  moeopt_moe_desc desc = qwen3();
  desc.hidden = 7168;
  desc.intermediate = 2048;
  desc.experts = 256;
  desc.dtype = MOEOPT_FP8;
  desc.score = MOEOPT_SIGMOID;
  desc.groups = 8;
  desc.top_k_groups = 4;
  desc.group_score = MOEOPT_GROUP_TOP2;
  desc.renormalise_epsilon = 1e-20f;
  desc.scale = 2.5f;
  desc.shared_intermediate = 2048;
  return desc;
}

using Change = std::function<void(moeopt_moe_desc&)>;

struct Case {
  std::string wanted;  // "" when it must pass
  Change change;
  moeopt_status status = MOEOPT_ERROR_UNSUPPORTED;
};

void expect(const moeopt_moe_desc& base, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    moeopt_moe_desc desc = base;
    c.change(desc);
    try {
      check_desc(&desc);
      EXPECT_EQ(c.wanted, "") << "was not refused";
    } catch (const Refusal& refusal) {
      EXPECT_EQ(refusal.what(), c.wanted);
      EXPECT_EQ(refusal.status(), c.status) << c.wanted;
    }
  }
}

TEST(Describe, FillsInTheDefaults) {
  const moeopt_moe_desc desc = qwen3();
  const Shape shape = check_desc(&desc);
  EXPECT_EQ(shape.hidden, 2048);
  EXPECT_EQ(shape.intermediate, 768);
  EXPECT_EQ(shape.experts, 128);
  EXPECT_EQ(shape.slots, 128);
  EXPECT_EQ(shape.top_k, 8);
  EXPECT_EQ(shape.max_tokens, 512);
  EXPECT_EQ(shape.dtype, Dtype::kBf16);
  EXPECT_EQ(shape.groups, 1);
  EXPECT_EQ(shape.top_k_groups, 1);
  EXPECT_TRUE(shape.renormalise);
  EXPECT_EQ(shape.scale, 1.0f);
  EXPECT_FALSE(shape.shared());
}

TEST(Describe, KeepsWhatIsSet) {
  moeopt_moe_desc desc = deepseek_v3();
  desc.slots = 32;
  desc.shared_gate = 1;
  const Shape shape = check_desc(&desc);
  EXPECT_EQ(shape.slots, 32);
  EXPECT_EQ(shape.dtype, Dtype::kFp8);
  EXPECT_EQ(shape.score, MOEOPT_SIGMOID);
  EXPECT_EQ(shape.groups, 8);
  EXPECT_EQ(shape.top_k_groups, 4);
  EXPECT_EQ(shape.group_score, MOEOPT_GROUP_TOP2);
  EXPECT_EQ(shape.renormalise_epsilon, 1e-20f);
  EXPECT_EQ(shape.scale, 2.5f);
  EXPECT_EQ(shape.shared_intermediate, 2048);
  EXPECT_TRUE(shape.shared_gate);
}

TEST(Describe, Dimensions) {
  expect(
      qwen3(),
      {{"", [](auto& d) { d.hidden = 64; }},
       {"", [](auto& d) { d.hidden = 16384; }},
       {"", [](auto& d) { d.intermediate = 32768; }},
       {"hidden is 0; it must be 64 .. 16384", [](auto& d) { d.hidden = 0; },
        MOEOPT_ERROR_ARGUMENT},
       {"hidden is -64; it must be 64 .. 16384", [](auto& d) { d.hidden = -64; },
        MOEOPT_ERROR_ARGUMENT},
       {"hidden is 16448; it must be 64 .. 16384", [](auto& d) { d.hidden = 16448; }},
       {"hidden is 2080; it must be a multiple of 64 (bf16)", [](auto& d) { d.hidden = 2080; }},
       {"intermediate is 32832; it must be 64 .. 32768", [](auto& d) { d.intermediate = 32832; }},
       {"intermediate is 100; it must be a multiple of 64 (bf16)",
        [](auto& d) { d.intermediate = 100; }},
       {"shared_intermediate is 96; it must be a multiple of 64 (bf16)",
        [](auto& d) { d.shared_intermediate = 96; }},
       {"shared_intermediate is -128; it must be 64 .. 32768",
        [](auto& d) { d.shared_intermediate = -128; }, MOEOPT_ERROR_ARGUMENT},
       {"shared_intermediate is 65536; it must be 64 .. 32768",
        [](auto& d) { d.shared_intermediate = 65536; }}});
  expect(deepseek_v3(),
         {{"", [](auto& d) { d.hidden = d.intermediate = d.shared_intermediate = 128; }},
          {"hidden is 7232; it must be a multiple of 128 (fp8)", [](auto& d) { d.hidden = 7232; }},
          {"intermediate is 192; it must be a multiple of 128 (fp8)",
           [](auto& d) { d.intermediate = 192; }},
          {"shared_intermediate is 192; it must be a multiple of 128 (fp8)",
           [](auto& d) { d.shared_intermediate = 192; }}});
}

TEST(Describe, Counts) {
  expect(
      qwen3(),
      {{"", [](auto& d) { d.experts = 1, d.top_k = 1; }},
       {"", [](auto& d) { d.experts = 512, d.slots = 512; }},
       {"", [](auto& d) { d.top_k = 16; }},
       {"", [](auto& d) { d.max_tokens = 65536; }},
       {"", [](auto& d) { d.slots = 1; }},
       {"experts is 0; it must be 1 .. 512", [](auto& d) { d.experts = 0; }, MOEOPT_ERROR_ARGUMENT},
       {"experts is 513; it must be 1 .. 512", [](auto& d) { d.experts = 513; }},
       {"top_k is 0; it must be 1 .. 16", [](auto& d) { d.top_k = 0; }, MOEOPT_ERROR_ARGUMENT},
       {"top_k is 17; it must be 1 .. 16", [](auto& d) { d.top_k = 17; }},
       {"top_k is 8; it must be 1 .. 6", [](auto& d) { d.experts = 6; }},
       {"slots is -1; it must be 0 .. 512", [](auto& d) { d.slots = -1; }, MOEOPT_ERROR_ARGUMENT},
       {"slots is 513; it must be 0 .. 512", [](auto& d) { d.slots = 513; }},
       {"max_tokens is 0; it must be 1 .. 65536", [](auto& d) { d.max_tokens = 0; },
        MOEOPT_ERROR_ARGUMENT},
       {"max_tokens is 65537; it must be 1 .. 65536", [](auto& d) { d.max_tokens = 65537; }}});
}

TEST(Describe, ChoicesAndFlags) {
  expect(qwen3(),
         {{"dtype is 2; it must be MOEOPT_BF16 or MOEOPT_FP8", [](auto& d) { d.dtype = 2; },
           MOEOPT_ERROR_ARGUMENT},
          {"dtype is -1; it must be MOEOPT_BF16 or MOEOPT_FP8", [](auto& d) { d.dtype = -1; },
           MOEOPT_ERROR_ARGUMENT},
          {"score is 2; it must be MOEOPT_SOFTMAX or MOEOPT_SIGMOID", [](auto& d) { d.score = 2; },
           MOEOPT_ERROR_ARGUMENT},
          {"group_score is 2; it must be MOEOPT_GROUP_MAX or MOEOPT_GROUP_TOP2",
           [](auto& d) { d.group_score = 2; }, MOEOPT_ERROR_ARGUMENT},
          {"renormalise is 2; it must be 0 or 1", [](auto& d) { d.renormalise = 2; },
           MOEOPT_ERROR_ARGUMENT},
          {"shared_gate is -1; it must be 0 or 1", [](auto& d) { d.shared_gate = -1; },
           MOEOPT_ERROR_ARGUMENT},
          {"shared_gate is 1, but shared_intermediate is 0: there is no shared expert",
           [](auto& d) { d.shared_gate = 1; }, MOEOPT_ERROR_ARGUMENT},
          {"", [](auto& d) { d.shared_gate = 1, d.shared_intermediate = 64; }},
          {"renormalise_epsilon is -1.000000; it must be finite and not negative",
           [](auto& d) { d.renormalise_epsilon = -1.0f; }, MOEOPT_ERROR_ARGUMENT},
          {"renormalise_epsilon is nan; it must be finite and not negative",
           [](auto& d) { d.renormalise_epsilon = std::numeric_limits<float>::quiet_NaN(); },
           MOEOPT_ERROR_ARGUMENT},
          {"scale is inf; it must be finite", [](auto& d) { d.scale = HUGE_VALF; },
           MOEOPT_ERROR_ARGUMENT}});
}

TEST(Describe, Groups) {
  expect(
      deepseek_v3(),
      {{"", [](auto& d) { d.groups = d.top_k_groups = 0; }},
       {"", [](auto& d) { d.groups = d.top_k_groups = 1; }},
       {"", [](auto& d) { d.groups = d.top_k_groups = 32; }},
       {"groups is -1; it must be 0 .. 32", [](auto& d) { d.groups = -1; }, MOEOPT_ERROR_ARGUMENT},
       {"groups is 64; it must be 0 .. 32", [](auto& d) { d.groups = 64; }},
       {"experts is 256, which 3 groups do not divide", [](auto& d) { d.groups = 3; }},
       {"top_k_groups is 0; it must be 1 .. groups (8)", [](auto& d) { d.top_k_groups = 0; },
        MOEOPT_ERROR_ARGUMENT},
       {"top_k_groups is 9; it must be 1 .. groups (8)", [](auto& d) { d.top_k_groups = 9; },
        MOEOPT_ERROR_ARGUMENT},
       {"top_k_groups (without groups) is 4; it must be 0 .. 1", [](auto& d) { d.groups = 1; }},
       {"top_k is 8, but 1 groups hold 4 experts",
        [](auto& d) { d.experts = 32, d.top_k_groups = 1; }, MOEOPT_ERROR_ARGUMENT},
       {"group_score is MOEOPT_GROUP_TOP2, but a group has one expert",
        [](auto& d) { d.experts = d.groups = d.top_k_groups = 16; }, MOEOPT_ERROR_ARGUMENT}});
}

TEST(Describe, OneGpuForNow) {
  expect(qwen3(), {{"", [](auto& d) { d.world = 1; }},
                   {"world is 2; this library runs one GPU", [](auto& d) { d.world = 2; }},
                   {"world is -1; it must not be negative", [](auto& d) { d.world = -1; },
                    MOEOPT_ERROR_ARGUMENT},
                   {"rank is 1; it must be 0 when world is 0 or 1", [](auto& d) { d.rank = 1; },
                    MOEOPT_ERROR_ARGUMENT}});
}

TEST(Describe, Tiles) {
  const char* wanted = "; it must be 0, 8, 32, 64 or 128";
  expect(qwen3(), {{"", [](auto& d) { d.tile_tokens = 32; }},
                   {"", [](auto& d) { d.tile_tokens = 128; }},
                   {"", [](auto& d) { d.tile_tokens = d.max_tokens = 8; }},
                   {"tile_tokens is 8, but max_tokens is 9",
                    [](auto& d) {
                      d.tile_tokens = 8;
                      d.max_tokens = 9;
                    },
                    MOEOPT_ERROR_ARGUMENT},
                   {std::string("tile_tokens is 16") + wanted, [](auto& d) { d.tile_tokens = 16; },
                    MOEOPT_ERROR_ARGUMENT},
                   {std::string("tile_tokens is -1") + wanted, [](auto& d) { d.tile_tokens = -1; },
                    MOEOPT_ERROR_ARGUMENT}});
}

TEST(Describe, StructSize) {
  static_assert(sizeof(moeopt_moe_desc) == 80, "an older size must go on to be accepted");
  const char* wanted = "moeopt_moe_desc.struct_size is ";
  expect(qwen3(), {{wanted + std::string("0; this library takes 76 to 80 bytes"),
                    [](auto& d) { d.struct_size = 0; }, MOEOPT_ERROR_ARGUMENT},
                   {wanted + std::string("72; this library takes 76 to 80 bytes"),
                    [](auto& d) { d.struct_size = 72; }, MOEOPT_ERROR_ARGUMENT},
                   {wanted + std::string("84; this library takes 76 to 80 bytes"),
                    [](auto& d) { d.struct_size = 84; }, MOEOPT_ERROR_ARGUMENT}});
  moeopt_moe_desc older = qwen3();
  older.struct_size = 76;
  older.tile_tokens = 5;  // behind what the caller knows
  EXPECT_EQ(check_desc(&older).tile_tokens, 0);
  try {
    check_desc(nullptr);
    FAIL() << "null was not refused";
  } catch (const Refusal& refusal) {
    EXPECT_STREQ(refusal.what(), "moeopt_moe_desc is null");
  }
}

TEST(Describe, Sizes) {
  moeopt_moe_desc desc = qwen3();
  Shape shape = check_desc(&desc);
  EXPECT_EQ(expert_layout(shape).bytes(), 3u * 2048u * 768u * 2u);
  EXPECT_EQ(shared_bytes(shape), 0u);
  desc = deepseek_v3();
  desc.shared_intermediate = 4096;
  shape = check_desc(&desc);
  // Images of 16 KB, then scales: 32 tiles x 2 x 56 floats and 56 tiles x 16 floats.
  EXPECT_EQ(expert_layout(shape).bytes(), 3u * 7168u * 2048u + 32u * 448u + 56u * 64u);
  EXPECT_EQ(shared_bytes(shape), 3u * 7168u * 4096u + 64u * 448u + 56u * 128u);
}

}  // namespace
}  // namespace moeopt::cuda::moe
