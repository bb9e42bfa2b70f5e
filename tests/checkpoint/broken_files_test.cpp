// Broken single files: each row is one way to break model.safetensors, and what must be said.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint_util.h"
#include "checkpoint/safetensors_source.h"

namespace moeopt {
namespace {

struct BrokenFile {
  std::string label;
  std::function<std::string()> file;
  ErrorCode code;
  std::vector<std::string> fragments;
};

void PrintTo(const BrokenFile& row, std::ostream* out) {
  *out << row.label;
}

std::string one_tensor(const std::string& fields, std::size_t data_bytes = 16) {
  return raw_safetensors("{\"w\":{" + fields + "}}", std::string(data_bytes, 'x'));
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return raw_safetensors(header, std::string(data_bytes, 'x'));
}

std::string with_length(std::uint64_t length, const std::string& rest) {
  std::string file = raw_safetensors("", rest);
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i) & 0xff);
  return file;
}

std::string good() {
  return safetensors_file({{"w", "F32", {4}, std::string(16, 'x')}});
}

constexpr ErrorCode kInvalid = ErrorCode::kInvalidData;

const std::vector<BrokenFile> kBrokenFiles = {
    // The eight bytes before the header.
    {"empty_file", [] { return std::string(); }, kInvalid, {"0 bytes long", "too short"}},
    {"five_bytes", [] { return std::string("\x01\0\0\0\0", 5); }, kInvalid, {"5 bytes long"}},
    {"length_above_limit",
     [] { return with_length(100'000'001, "{}"); },
     kInvalid,
     {"header length 100000001", "limit of 100000000"}},
    {"length_wraps_with_eight",
     [] { return with_length(~std::uint64_t{0} - 6, "{}"); },
     kInvalid,
     {"header length 18446744073709551609"}},
    {"length_past_the_end",
     [] { return with_length(64, "{}"); },
     kInvalid,
     {"header of 64 bytes in a file of 10 bytes"}},
    {"length_one_past_the_end",
     [] { return with_length(3, "{}"); },
     kInvalid,
     {"header of 3 bytes in a file of 10 bytes"}},
    {"lfs_pointer",
     [] { return std::string("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"); },
     kInvalid,
     {"Git LFS pointer", "git lfs pull"}},
    // The header as JSON.
    {"no_header", [] { return file_of("", 0); }, kInvalid, {"does not start with \"{\""}},
    {"space_first", [] { return file_of(" {}", 0); }, kInvalid, {"does not start with \"{\""}},
    {"array_header", [] { return file_of("[]", 0); }, kInvalid, {"does not start with \"{\""}},
    {"cut_json", [] { return file_of("{\"w\":{", 0); }, kInvalid, {"not valid JSON at byte"}},
    {"two_values", [] { return file_of("{} {}", 0); }, kInvalid, {"not valid JSON at byte 4"}},
    {"nul_hides_the_rest",
     [] { return file_of(std::string("{}\0{\"w\":1}", 10), 0); },
     kInvalid,
     {"byte 3", "NUL"}},
    {"invalid_utf8", [] { return file_of("{\"\xff\":1}", 0); }, kInvalid, {"invalid string"}},
    {"deep_json",
     [] { return file_of("{\"w\":{\"shape\":" + std::string(5'000'000, '['), 0); },
     kInvalid,
     {"tensor \"w\"", "shape[0] is not a size"}},
    {"duplicate_tensor",
     [] {
       const std::string w = R"("w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
       return file_of("{" + w + "," + w + "}", 4);
     },
     kInvalid,
     {"tensor \"w\"", "named twice"}},
    {"duplicate_field",
     [] { return one_tensor(R"("dtype":"U8","dtype":"F32")"); },
     kInvalid,
     {"tensor \"w\"", "duplicate key \"dtype\""}},
    {"long_name",
     [] { return file_of("{\"" + std::string(4097, 'n') + "\":{}}", 0); },
     kInvalid,
     {"tensor \"nnnn", "name of 4097 bytes, the limit is 4096"}},
    {"control_characters_in_name",
     [] { return file_of(R"({"\u001b[2J":{}})", 0); },
     kInvalid,
     {"tensor \"\\x1b[2J\""}},
    // __metadata__.
    {"metadata_is_a_list",
     [] { return file_of(R"({"__metadata__":[]})", 0); },
     kInvalid,
     {"__metadata__ is not an object"}},
    {"metadata_has_a_number",
     [] { return file_of(R"({"__metadata__":{"format":1}})", 0); },
     kInvalid,
     {"__metadata__: \"format\" is not a string"}},
    {"metadata_twice",
     [] { return file_of(R"({"__metadata__":{"a":"1","a":"2"}})", 0); },
     kInvalid,
     {"__metadata__: duplicate key \"a\""}},
    // One tensor's fields.
    {"tensor_is_a_number",
     [] { return file_of(R"({"w":7})", 0); },
     kInvalid,
     {"tensor \"w\"", "is not an object"}},
    {"no_dtype",
     [] { return one_tensor(R"("shape":[4],"data_offsets":[0,16])"); },
     kInvalid,
     {"tensor \"w\"", "has no \"dtype\""}},
    {"no_shape",
     [] { return one_tensor(R"("dtype":"F32","data_offsets":[0,16])"); },
     kInvalid,
     {"tensor \"w\"", "has no \"shape\""}},
    {"no_offsets",
     [] { return one_tensor(R"("dtype":"F32","shape":[4])"); },
     kInvalid,
     {"tensor \"w\"", "has no \"data_offsets\""}},
    {"unknown_field",
     [] { return one_tensor(R"("strides":[1])"); },
     kInvalid,
     {"tensor \"w\"", "unknown field \"strides\""}},
    {"unknown_dtype",
     [] { return one_tensor(R"("dtype":"F33","shape":[4],"data_offsets":[0,16])"); },
     kInvalid,
     {"tensor \"w\"", "unknown dtype \"F33\""}},
    {"unread_dtype",
     [] { return one_tensor(R"("dtype":"F8_E5M2","shape":[16],"data_offsets":[0,16])"); },
     ErrorCode::kUnsupported,
     {"tensor \"w\"", "dtype F8_E5M2 is not read"}},
    {"dtype_is_a_number",
     [] { return one_tensor(R"("dtype":32)"); },
     kInvalid,
     {"tensor \"w\"", "dtype is not a string"}},
    {"shape_is_a_number",
     [] { return one_tensor(R"("dtype":"F32","shape":4)"); },
     kInvalid,
     {"tensor \"w\"", "shape is not an array"}},
    {"negative_extent",
     [] { return one_tensor(R"("dtype":"F32","shape":[2,-2],"data_offsets":[0,16])"); },
     kInvalid,
     {"tensor \"w\"", "shape[1] is not a size"}},
    {"fractional_extent",
     [] { return one_tensor(R"("dtype":"F32","shape":[4.0],"data_offsets":[0,16])"); },
     kInvalid,
     {"tensor \"w\"", "shape[0] is not a size"}},
    {"extent_above_int64",
     [] {
       return one_tensor(R"("dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,16])");
     },
     kInvalid,
     {"tensor \"w\"", "shape[0] is not a size"}},
    {"rank_nine",
     [] {
       return one_tensor(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,16])");
     },
     kInvalid,
     {"tensor \"w\"", "rank above the limit of 8"}},
    {"elements_wrap",
     [] {
       return one_tensor(R"("dtype":"U8","shape":[4294967296,4294967296,16],"data_offsets":[0,0])",
                         0);
     },
     kInvalid,
     {"tensor \"w\"", "shape [4294967296, 4294967296, 16] overflows"}},
    {"bytes_wrap",  // 2^62 elements x 4 bytes is 0 modulo 2^64
     [] {
       return one_tensor(R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0])", 0);
     },
     kInvalid,
     {"tensor \"w\"", "overflows"}},
    {"shape_and_bytes_disagree",
     [] { return one_tensor(R"("dtype":"F32","shape":[5],"data_offsets":[0,16])"); },
     kInvalid,
     {"tensor \"w\"", "f32 [5] takes 20 bytes, data_offsets say 16"}},
    {"three_offsets",
     [] { return one_tensor(R"("dtype":"F32","shape":[4],"data_offsets":[0,16,16])"); },
     kInvalid,
     {"tensor \"w\"", "data_offsets are not two byte offsets"}},
    {"one_offset",
     [] { return one_tensor(R"("dtype":"F32","shape":[4],"data_offsets":[0])"); },
     kInvalid,
     {"tensor \"w\"", "data_offsets are not two byte offsets"}},
    {"negative_offset",
     [] { return one_tensor(R"("dtype":"F32","shape":[4],"data_offsets":[-16,0])"); },
     kInvalid,
     {"tensor \"w\"", "data_offsets are not two byte offsets"}},
    {"offsets_run_backwards",
     [] { return one_tensor(R"("dtype":"F32","shape":[4],"data_offsets":[16,0])"); },
     kInvalid,
     {"tensor \"w\"", "data_offsets [16, 0] run backwards"}},
    {"offset_past_the_end",
     [] { return one_tensor(R"("dtype":"F32","shape":[4],"data_offsets":[4,20])"); },
     kInvalid,
     {"tensor \"w\"", "ends at byte 20", "16 bytes"}},
    {"offset_wraps",
     [] {
       return one_tensor(
           R"("dtype":"F32","shape":[4],"data_offsets":[18446744073709551600,18446744073709551615])");
     },
     kInvalid,
     {"tensor \"w\"", "ends at byte 18446744073709551615"}},
    // Tensors against each other and the file.
    {"overlap",
     [] {
       return file_of(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},)"
                      R"("b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}})",
                      12);
     },
     kInvalid,
     {"tensor \"b\"", "overlaps \"a\" by 4 bytes"}},
    {"same_place",
     [] {
       return file_of(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},)"
                      R"("b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
                      8);
     },
     kInvalid,
     {"tensor \"b\"", "overlaps \"a\" by 8 bytes"}},
    {"hole",
     [] {
       return file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                      R"("b":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}})",
                      12);
     },
     kInvalid,
     {"tensor \"b\"", "leaves a hole of 4 bytes after \"a\""}},
    {"hole_at_the_start",
     [] { return one_tensor(R"("dtype":"U8","shape":[12],"data_offsets":[4,16])"); },
     kInvalid,
     {"tensor \"w\"", "leaves a hole of 4 bytes after the header"}},
    {"bytes_left_over",
     [] { return good() + "tail"; },
     kInvalid,
     {"4 bytes after \"w\" belong to no tensor"}},
    {"truncated_data",
     [] {
       std::string file = good();
       file.resize(file.size() - 1);
       return file;
     },
     kInvalid,
     {"tensor \"w\"", "truncated"}},
    {"truncated_header", [] { return good().substr(0, 40); }, kInvalid, {"header of", "truncated"}},
};

class BrokenFileTest : public testing::TestWithParam<BrokenFile> {};

TEST_P(BrokenFileTest, IsRefusedByName) {
  const TempFolder folder;
  const std::string file = folder.write("model.safetensors", GetParam().file());
  try {
    open_safetensors(folder.path());
    FAIL() << "was accepted";
  } catch (const Error& error) {
    const std::string said = std::string(error.what()) + " / " + error.hint();
    EXPECT_EQ(error.code(), GetParam().code) << said;
    EXPECT_THAT(said, testing::StartsWith(file + ": "));
    EXPECT_LT(said.size(), 1000u);
    for (const std::string& fragment : GetParam().fragments) {
      EXPECT_THAT(said, testing::HasSubstr(fragment));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, BrokenFileTest, testing::ValuesIn(kBrokenFiles),
                         [](const auto& row) { return row.param.label; });

// The builder that the rows above damage makes a file that is read.
TEST(BrokenFiles, TheUndamagedFileIsRead) {
  const TempFolder folder;
  folder.write("model.safetensors", good());
  EXPECT_EQ(open_safetensors(folder.path())->list().size(), 1u);
}

}  // namespace
}  // namespace moeopt
