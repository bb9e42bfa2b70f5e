// Broken folders: each row sets up one, and says what must be said about it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint_util.h"
#include "checkpoint/model_folder.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kShard1 = "model-00001-of-00002.safetensors";
constexpr const char* kShard2 = "model-00002-of-00002.safetensors";

std::string file_with(const std::vector<std::string>& names) {
  std::vector<TestTensor> tensors;
  for (const std::string& name : names) tensors.push_back({name, "F32", {2}, f32_bytes({1, 2})});
  return safetensors_file(tensors);
}

// Tensors a and b in the first shard, c in the second.
void write_two_shards(const TempFolder& folder) {
  folder.write(kShard1, file_with({"a", "b"}));
  folder.write(kShard2, file_with({"c"}));
  folder.write(kIndex, index_file({{"a", kShard1}, {"b", kShard1}, {"c", kShard2}}));
}

struct BrokenFolder {
  std::string label;
  std::function<void(const TempFolder&)> make;
  ErrorCode code;
  std::vector<std::string> fragments;
};

void PrintTo(const BrokenFolder& row, std::ostream* out) {
  *out << row.label;
}

// A folder whose index places "a" in `shard`.
std::function<void(const TempFolder&)> index_naming(const std::string& shard) {
  return [shard](const TempFolder& folder) { folder.write(kIndex, index_file({{"a", shard}})); };
}

constexpr ErrorCode kInvalid = ErrorCode::kInvalidData;
constexpr ErrorCode kNotFound = ErrorCode::kNotFound;

const std::vector<BrokenFolder> kBrokenFolders = {
    // No weights that we read.
    {"no_weights",
     [](const TempFolder& folder) { folder.write("config.json", "{}"); },
     kNotFound,
     {"no weights", "model.safetensors", kIndex}},
    {"gguf_instead",
     [](const TempFolder& folder) { folder.write("Qwen3-Q4_K_M.gguf", "GGUF"); },
     ErrorCode::kUnsupported,
     {"Qwen3-Q4_K_M.gguf", "GGUF is not read", "safetensors"}},
    {"pickle_instead",
     [](const TempFolder& folder) { folder.write("pytorch_model.bin", "PK"); },
     ErrorCode::kUnsupported,
     {"pytorch_model.bin", "pickle", "safe_serialization=True"}},
    {"pt_instead",
     [](const TempFolder& folder) { folder.write("consolidated.00.pt", "PK"); },
     ErrorCode::kUnsupported,
     {"consolidated.00.pt", "pickle"}},
    {"shards_without_index",
     [](const TempFolder& folder) { folder.write(kShard1, file_with({"a"})); },
     kNotFound,
     {"no weights", kShard1, "index"}},
    // Something else in the file's place.
    {"weights_are_a_folder",
     [](const TempFolder& folder) { fs::create_directory(folder.path() / "model.safetensors"); },
     kInvalid,
     {"model.safetensors", "not a regular file"}},
    {"weights_are_a_fifo",
     [](const TempFolder& folder) {
       ASSERT_EQ(::mkfifo((folder.path() / "model.safetensors").c_str(), 0600), 0);
     },
     kInvalid,
     {"model.safetensors", "not a regular file"}},
    {"weights_are_a_device",
     [](const TempFolder& folder) {
       fs::create_symlink("/dev/zero", folder.path() / "model.safetensors");
     },
     kInvalid,
     {"model.safetensors", "symlink out of the model's folder"}},
    {"index_is_a_fifo",
     [](const TempFolder& folder) {
       ASSERT_EQ(::mkfifo((folder.path() / kIndex).c_str(), 0600), 0);
     },
     kInvalid,
     {kIndex, "not a regular file"}},
    // Symlinks.
    {"symlink_out",
     [](const TempFolder& folder) {
       fs::create_symlink("/etc/hostname", folder.path() / "model.safetensors");
     },
     kInvalid,
     {"model.safetensors", "symlink out of the model's folder", "/etc/hostname"}},
    {"symlink_up_and_out",
     [](const TempFolder& folder) {
       fs::create_symlink("../../../../../../etc/hostname", folder.path() / "model.safetensors");
     },
     kInvalid,
     {"symlink out of the model's folder"}},
    {"symlink_to_nothing",
     [](const TempFolder& folder) {
       fs::create_symlink("gone.safetensors", folder.path() / "model.safetensors");
     },
     kInvalid,
     {"model.safetensors", "leads nowhere"}},
    {"symlink_to_itself",
     [](const TempFolder& folder) {
       fs::create_symlink("model.safetensors", folder.path() / "model.safetensors");
     },
     kInvalid,
     {"model.safetensors", "leads nowhere"}},
    {"shard_symlink_out",
     [](const TempFolder& folder) {
       write_two_shards(folder);
       fs::remove(folder.path() / kShard2);
       fs::create_symlink("/etc/hostname", folder.path() / kShard2);
     },
     kInvalid,
     {kShard2, "symlink out of the model's folder"}},
    {"symlink_out_of_a_lookalike_folder",  // "x" must not pass for a part of "xy"
     [](const TempFolder& folder) {
       const fs::path twin = folder.path().string() + "-twin";
       fs::create_directory(twin);
       fs::create_symlink(folder.write(twin / "w.safetensors", file_with({"a"})),
                          folder.path() / "model.safetensors");
     },
     kInvalid,
     {"symlink out of the model's folder"}},
    // The index.
    {"index_is_not_json",
     [](const TempFolder& folder) { folder.write(kIndex, "weight_map"); },
     kInvalid,
     {kIndex, "not valid JSON"}},
    {"index_is_empty",
     [](const TempFolder& folder) { folder.write(kIndex, ""); },
     kInvalid,
     {kIndex, "not valid JSON"}},
    {"index_is_a_list",
     [](const TempFolder& folder) { folder.write(kIndex, "[]"); },
     kInvalid,
     {kIndex, "weight_map"}},
    {"index_without_weight_map",
     [](const TempFolder& folder) { folder.write(kIndex, "{\"metadata\":{}}"); },
     kInvalid,
     {kIndex, "no object \"weight_map\""}},
    {"weight_map_is_empty",
     [](const TempFolder& folder) { folder.write(kIndex, index_file({})); },
     kInvalid,
     {kIndex, "weight_map is empty"}},
    {"tensor_twice_in_index",
     [](const TempFolder& folder) {
       folder.write(kIndex, R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})");
     },
     kInvalid,
     {kIndex, "duplicate key \"a\""}},
    {"shard_is_a_number",
     [](const TempFolder& folder) { folder.write(kIndex, R"({"weight_map":{"a":1}})"); },
     kInvalid,
     {kIndex, "tensor \"a\"", "not a string"}},
    {"shard_is_absolute",
     index_naming("/etc/x.safetensors"),
     kInvalid,
     {kIndex, "tensor \"a\"", "\"/etc/x.safetensors\""}},
    {"shard_goes_up",
     index_naming("../x.safetensors"),
     kInvalid,
     {kIndex, "tensor \"a\"", "\"../x.safetensors\""}},
    {"shard_in_a_subfolder",
     index_naming("sub/x.safetensors"),
     kInvalid,
     {kIndex, "tensor \"a\"", "\"sub/x.safetensors\""}},
    {"shard_with_a_backslash",
     index_naming("..\\x.safetensors"),
     kInvalid,
     {kIndex, "tensor \"a\""}},
    {"shard_is_dots", index_naming(".."), kInvalid, {kIndex, "tensor \"a\"", "\"..\""}},
    {"shard_has_another_ending",
     index_naming("pytorch_model.bin"),
     kInvalid,
     {kIndex, "tensor \"a\"", "pytorch_model.bin"}},
    {"shard_absent",
     [](const TempFolder& folder) {
       write_two_shards(folder);
       fs::remove(folder.path() / kShard2);
     },
     kNotFound,
     {kIndex, kShard2, "not in the folder", "\"c\""}},
    {"shard_truncated",
     [](const TempFolder& folder) {
       write_two_shards(folder);
       fs::resize_file(folder.path() / kShard2, fs::file_size(folder.path() / kShard2) - 3);
     },
     kInvalid,
     {kShard2, "tensor \"c\"", "truncated"}},
    {"shard_empty",
     [](const TempFolder& folder) {
       write_two_shards(folder);
       fs::resize_file(folder.path() / kShard1, 0);
     },
     kInvalid,
     {kShard1, "0 bytes long"}},
    {"tensor_missing_in_shard",
     [](const TempFolder& folder) {
       write_two_shards(folder);
       folder.write(kShard1, file_with({"a"}));
     },
     kInvalid,
     {kIndex, "tensor \"b\"", "not in shard", kShard1}},
    {"tensor_not_in_index",
     [](const TempFolder& folder) {
       write_two_shards(folder);
       folder.write(kShard2, file_with({"c", "stray"}));
     },
     kInvalid,
     {kShard2, "tensor \"stray\"", kIndex}},
    {"tensor_in_two_shards",
     [](const TempFolder& folder) {
       write_two_shards(folder);
       folder.write(kShard2, file_with({"c", "a"}));
     },
     kInvalid,
     {kShard2, "tensor \"a\"", kShard1}},
    {"tensors_swapped_between_shards",
     [](const TempFolder& folder) {
       write_two_shards(folder);
       folder.write(kShard1, file_with({"c", "b"}));
       folder.write(kShard2, file_with({"a"}));
     },
     kInvalid,
     {kShard1, "tensor \"c\"", kShard2}},
};

class BrokenFolderTest : public testing::TestWithParam<BrokenFolder> {};

TEST_P(BrokenFolderTest, IsRefusedByName) {
  const TempFolder folder;
  GetParam().make(folder);
  try {
    open_tensors({folder.path(), "test", false});
    FAIL() << "was accepted";
  } catch (const Error& error) {
    const std::string said = std::string(error.what()) + " / " + error.hint();
    EXPECT_EQ(error.code(), GetParam().code) << said;
    EXPECT_THAT(said, testing::StartsWith(folder.path().string()));
    for (const std::string& fragment : GetParam().fragments) {
      EXPECT_THAT(said, testing::HasSubstr(fragment));
    }
  }
  fs::remove_all(folder.path().string() + "-twin");
}

INSTANTIATE_TEST_SUITE_P(All, BrokenFolderTest, testing::ValuesIn(kBrokenFolders),
                         [](const auto& row) { return row.param.label; });

TEST(BrokenFolders, TheUndamagedFolderIsRead) {
  const TempFolder folder;
  write_two_shards(folder);
  EXPECT_EQ(open_tensors({folder.path(), "test", false})->describe(), "2 shards, 24 B");
}

}  // namespace
}  // namespace moeopt
