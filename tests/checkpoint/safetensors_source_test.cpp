#include "checkpoint/safetensors_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "checkpoint/checkpoint_util.h"

namespace moeopt {
namespace {

std::vector<float> floats(const TensorView& view) {
  EXPECT_EQ(view.dtype, DType::kF32);
  const auto* first = reinterpret_cast<const float*>(view.data);
  return {first, first + view.shape.elements()};
}

std::vector<std::string> names(const TensorSource& source) {
  std::vector<std::string> all;
  for (const TensorInfo* tensor : source.list()) all.push_back(tensor->name);
  return all;
}

TEST(SafetensorsSource, ReadsASingleFile) {
  const TempFolder folder;
  folder.write("model.safetensors",
               safetensors_file({{"b", "F32", {2, 2}, f32_bytes({1, 2, 3, 4})},
                                 {"a", "BF16", {3}, std::string("\x80\x3f\x00\x40\x40\x40", 6)},
                                 {"none", "F32", {0, 7}, ""},
                                 {"scalar", "F32", {}, f32_bytes({5})}}));
  const auto source = open_safetensors(folder.path());
  EXPECT_THAT(names(*source), testing::ElementsAre("a", "b", "none", "scalar"));
  EXPECT_EQ(source->describe(), "model.safetensors, 26 B");
  EXPECT_EQ(total_bytes(*source), 26u);

  const TensorInfo* b = source->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, DType::kF32);
  EXPECT_EQ(b->shape, (Shape{2, 2}));
  EXPECT_EQ(b->size_bytes, 16u);
  EXPECT_EQ(b->file, "model.safetensors");
  EXPECT_THAT(floats(source->view("b")), testing::ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(floats(source->view("scalar")), testing::ElementsAre(5));
  EXPECT_EQ(source->view("none").size_bytes(), 0u);
  const TensorView a = source->view("a");
  EXPECT_EQ(to_float(reinterpret_cast<const Bf16*>(a.data)[2]), 3.0f);
}

}  // namespace
}  // namespace moeopt
