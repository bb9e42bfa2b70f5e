#include "plan/kv_layout.h"

#include <gtest/gtest.h>

#include "plan/plan_util.h"

namespace moeopt {
namespace {

TEST(KvLayout, GqaKeepsKeysThenValues) {
  const KvLayout layout = kv_layout_of(test::known_spec("Qwen3-30B-A3B"), DType::kBF16, 16);
  ASSERT_EQ(layout.planes.size(), 2u);
  EXPECT_EQ(layout.planes[0].elements, 4 * 128);
  EXPECT_EQ(layout.planes[1].elements, 4 * 128);
  EXPECT_EQ(layout.token_bytes_per_layer(), 2048u);
  EXPECT_EQ(layout.token_bytes(), 98'304u);  // 96 KiB: 48 layers x 2 x 4 heads x 128 x 2 bytes
  EXPECT_EQ(layout.block_bytes(), 16u * 2048u);
  EXPECT_EQ(layout.plane_offset_bytes(0), 0u);
  EXPECT_EQ(layout.plane_offset_bytes(1), 16u * 512u * 2u);
}

TEST(KvLayout, MlaKeepsTheLatentForAllHeads) {
  const KvLayout layout = kv_layout_of(test::known_spec("DeepSeek-V3"), DType::kBF16, 64);
  ASSERT_EQ(layout.planes.size(), 2u);
  EXPECT_EQ(layout.planes[0].name, "latent");
  EXPECT_EQ(layout.planes[0].elements, 512);
  EXPECT_EQ(layout.planes[1].elements, 64);
  EXPECT_EQ(layout.token_bytes(), 70'272u);  // 61 x 576 x 2
  EXPECT_EQ(layout.plane_offset_bytes(1), 64u * 512u * 2u);
}

TEST(KvLayout, FollowsTheDtype) {
  const ModelSpec spec = test::tiny_spec();
  EXPECT_EQ(kv_layout_of(spec, DType::kF32, 16).token_bytes(),
            2 * kv_layout_of(spec, DType::kBF16, 16).token_bytes());
}

}  // namespace
}  // namespace moeopt
