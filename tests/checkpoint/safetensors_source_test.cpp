#include "checkpoint/safetensors_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint_util.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

std::vector<float> floats(const TensorView& view) {
  EXPECT_EQ(view.dtype, DType::kF32);
  EXPECT_TRUE(view.is_aligned(alignof(float)));
  const auto* first = reinterpret_cast<const float*>(view.data);
  return {first, first + view.shape.elements()};
}

std::vector<std::string> names(const TensorSource& source) {
  std::vector<std::string> all;
  for (const TensorInfo* tensor : source.list()) all.push_back(tensor->name);
  return all;
}

std::string file_with(const std::string& name, const std::vector<float>& values) {
  return safetensors_file(
      {{name, "F32", {static_cast<std::int64_t>(values.size())}, f32_bytes(values)}});
}

bool is_mapped(const fs::path& file) {
  std::ifstream maps("/proc/self/maps");
  std::stringstream text;
  text << maps.rdbuf();
  return text.str().find(file.string()) != std::string::npos;
}

std::string what_view_throws(const TensorSource& source, std::string_view name, ErrorCode code) {
  try {
    source.view(name);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "nothing";
}

TEST(SafetensorsSource, ReadsASingleFile) {
  const TempFolder folder;
  folder.write("model.safetensors",
               safetensors_file({{"b", "F32", {2, 2}, f32_bytes({1, 2, 3, 4})},
                                 {"scalar", "F32", {}, f32_bytes({5})},
                                 {"none", "F32", {0, 7}, ""},
                                 {"a", "BF16", {3}, std::string("\x80\x3f\x00\x40\x40\x40", 6)}}));
  const auto source = open_safetensors(folder.path());
  EXPECT_THAT(names(*source), testing::ElementsAre("a", "b", "none", "scalar"));
  EXPECT_EQ(source->describe(), "model.safetensors, 26 B");
  EXPECT_EQ(total_bytes(*source), 26u);

  const TensorInfo* b = source->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->name, "b");
  EXPECT_EQ(b->dtype, DType::kF32);
  EXPECT_EQ(b->shape, (Shape{2, 2}));
  EXPECT_EQ(b->size_bytes, 16u);
  EXPECT_EQ(b->file, "model.safetensors");
  EXPECT_EQ(source->find("c"), nullptr);
  EXPECT_EQ(source->find(""), nullptr);

  EXPECT_THAT(floats(source->view("b")), testing::ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(floats(source->view("scalar")), testing::ElementsAre(5));
  EXPECT_EQ(source->view("none").size_bytes(), 0u);
  const TensorView a = source->view("a");
  EXPECT_EQ(to_float(reinterpret_cast<const Bf16*>(a.data)[2]), 3.0f);
}

TEST(SafetensorsSource, ReadsShards) {
  const TempFolder folder;
  folder.write("x.safetensors", file_with("a", {1, 2}));
  folder.write("y.safetensors", file_with("b", {3}));
  folder.write("stray.safetensors", "the index does not name it");
  folder.write("model.safetensors.index.json",
               index_file({{"a", "x.safetensors"}, {"b", "y.safetensors"}}));
  const auto source = open_safetensors(folder.path());
  EXPECT_EQ(source->describe(), "2 shards, 12 B");
  EXPECT_EQ(source->find("b")->file, "y.safetensors");
  EXPECT_THAT(floats(source->view("a")), testing::ElementsAre(1, 2));
  EXPECT_THAT(floats(source->view("b")), testing::ElementsAre(3));
}

TEST(SafetensorsSource, TheSingleFileWinsOverTheIndex) {
  const TempFolder folder;
  folder.write("model.safetensors", file_with("single", {1}));
  folder.write("model.safetensors.index.json", "never read");
  EXPECT_THAT(names(*open_safetensors(folder.path())), testing::ElementsAre("single"));
}

TEST(SafetensorsSource, ASymlinkInsideTheFolderIsFollowed) {
  const TempFolder folder;
  folder.write("files/w", file_with("a", {7}));
  fs::create_symlink("files/w", folder.path() / "model.safetensors");
  const auto source = open_safetensors(folder.path());
  EXPECT_THAT(floats(source->view("a")), testing::ElementsAre(7));
  EXPECT_EQ(source->find("a")->file, "model.safetensors");
}

TEST(SafetensorsSource, ADataFileIsMappedWhenFirstViewed) {
  const TempFolder folder;
  folder.write("x.safetensors", file_with("a", {1}));
  folder.write("y.safetensors", file_with("b", {2}));
  folder.write("model.safetensors.index.json",
               index_file({{"a", "x.safetensors"}, {"b", "y.safetensors"}}));
  auto source = open_safetensors(folder.path());
  EXPECT_FALSE(is_mapped(folder.path() / "x.safetensors"));
  source->view("a");
  EXPECT_TRUE(is_mapped(folder.path() / "x.safetensors"));
  EXPECT_FALSE(is_mapped(folder.path() / "y.safetensors"));
  source.reset();
  EXPECT_FALSE(is_mapped(folder.path() / "x.safetensors"));
}

TEST(SafetensorsSource, AMissingTensorIsNamed) {
  const TempFolder folder;
  folder.write("model.safetensors", file_with("a", {1}));
  const auto source = open_safetensors(folder.path());
  EXPECT_THAT(what_view_throws(*source, "b", ErrorCode::kNotFound),
              testing::AllOf(testing::HasSubstr("\"b\""), testing::HasSubstr("model.safetensors")));
}

// Every residue of the header's length, so that some views lie unaligned in the file.
TEST(SafetensorsSource, ViewsAreAlignedWhateverTheHeadersLength) {
  for (std::size_t padding = 0; padding < 8; ++padding) {
    const TempFolder folder;
    const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                               R"("b":{"dtype":"F64","shape":[1],"data_offsets":[8,16]}})" +
                               std::string(padding, ' ');
    const double value = 0.1;
    folder.write(
        "model.safetensors",
        raw_safetensors(header,
                        f32_bytes({1, 2}) + std::string(reinterpret_cast<const char*>(&value), 8)));
    const auto source = open_safetensors(folder.path());
    EXPECT_THAT(floats(source->view("a")), testing::ElementsAre(1, 2));
    const TensorView b = source->view("b");
    EXPECT_TRUE(b.is_aligned(alignof(double)));
    EXPECT_EQ(*reinterpret_cast<const double*>(b.data), value);
    EXPECT_EQ(source->view("b").data, b.data) << "copied once";
  }
}

TEST(SafetensorsSource, AReleasedTensorComesBack) {
  const TempFolder folder;
  std::vector<float> values(100'000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  folder.write("model.safetensors", file_with("a", values));
  folder.write("odd/model.safetensors",
               safetensors_file({{"a", "F32", {100'000}, f32_bytes(values)}}, 1));
  for (const char* place : {".", "odd"}) {
    const auto source = open_safetensors(folder.path() / place);
    EXPECT_EQ(floats(source->view("a")), values);
    source->release("a");
    source->release("absent");
    EXPECT_EQ(floats(source->view("a")), values);
  }
}

TEST(SafetensorsSource, NoticesAFileThatChanges) {
  const std::string good = file_with("a", {1, 2, 3, 4});
  for (const bool viewed_before : {false, true}) {
    for (const std::string change : {"shrinks", "grows", "is replaced", "goes"}) {
      SCOPED_TRACE(change + (viewed_before ? " after a view" : " before the first view"));
      const TempFolder folder;
      const fs::path file = folder.write("model.safetensors", good);
      const auto source = open_safetensors(folder.path());
      if (viewed_before) source->view("a");
      if (change == "shrinks") fs::resize_file(file, good.size() - 4);
      if (change == "grows") fs::resize_file(file, good.size() + 4);
      if (change == "is replaced") fs::rename(folder.write("new", good), file);
      if (change == "goes") fs::remove(file);
      const bool gone = change == "goes";
      EXPECT_THAT(
          what_view_throws(*source, "a", gone ? ErrorCode::kNotFound : ErrorCode::kInvalidData),
          testing::AllOf(testing::HasSubstr(file.string()),
                         testing::HasSubstr(gone ? "No such file" : "changed while")));
    }
  }
}

TEST(SafetensorsSource, ServesSeveralThreads) {
  const TempFolder folder;
  folder.write("model.safetensors", safetensors_file({{"a", "F32", {2}, f32_bytes({1, 2})},
                                                      {"b", "F32", {2}, f32_bytes({3, 4})}},
                                                     1));
  const auto source = open_safetensors(folder.path());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        EXPECT_THAT(floats(source->view("a")), testing::ElementsAre(1, 2));
        EXPECT_THAT(floats(source->view("b")), testing::ElementsAre(3, 4));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace moeopt
