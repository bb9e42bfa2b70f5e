#include "base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/mapping_guard.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "moeopt-file-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, std::string_view text) const {
    write_file(folder_ / name, std::as_bytes(std::span(text)));
    return folder_ / name;
  }

  fs::path folder_;
};

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The code of the Error that `call` throws, which must name `file`.
ErrorCode refusal(const fs::path& file, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(file.string()));
    return error.code();
  }
  ADD_FAILURE() << "was accepted";
  return ErrorCode::kInternal;
}

TEST_F(FileTest, ReadsUpToTheLimit) {
  const fs::path file = write("a", "12345");
  EXPECT_EQ(read_file(file, 5), "12345");
  EXPECT_EQ(refusal(file, [&] { read_file(file, 4); }), ErrorCode::kInvalidData);
  EXPECT_EQ(read_file(write("empty", ""), 0), "");
}

TEST_F(FileTest, WritesWholeFilesAlone) {
  const fs::path file = write("a", "old");
  EXPECT_EQ(read_file(write("a", "newer"), 100), "newer");
  EXPECT_FALSE(fs::exists(file.string() + ".part"));
  const fs::path nowhere = folder_ / "gone" / "a";
  EXPECT_EQ(refusal(nowhere, [&] { write_file(nowhere, {}); }), ErrorCode::kNotFound);
  const fs::path taken = folder_ / "taken";
  fs::create_directories(taken / "full");
  EXPECT_EQ(refusal(taken, [&] { write_file(taken, {}); }), ErrorCode::kIo);
  EXPECT_FALSE(fs::exists(taken.string() + ".part"));
}

// A pipe, not /dev/full: the wrong code would replace what the whole machine uses.
TEST_F(FileTest, WritesIntoAPipeAndLeavesIt) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  write_file(pipe, std::as_bytes(std::span("12345", 5)));
  std::string got(5, ' ');
  EXPECT_EQ(::read(reader, got.data(), got.size()), 5);
  EXPECT_EQ(got, "12345");
  ::close(reader);
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_FALSE(fs::exists(pipe.string() + ".part"));
}

TEST_F(FileTest, RefusesWhatIsNotARegularFile) {
  const fs::path fifo = folder_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  for (const fs::path& file : {fifo, folder_, fs::path("/dev/zero")}) {
    EXPECT_EQ(refusal(file, [&] { read_file(file, 100); }), ErrorCode::kInvalidData);
    EXPECT_EQ(refusal(file, [&] { InputFile{file}; }), ErrorCode::kInvalidData);
    EXPECT_EQ(refusal(file, [&] { MappedFile{file}; }), ErrorCode::kInvalidData);
    EXPECT_EQ(refusal(file, [&] { identify_file(file); }), ErrorCode::kInvalidData);
  }
}

TEST_F(FileTest, NamesAnAbsentFile) {
  const fs::path inside_a_file = write("a", "") / "b";
  for (const fs::path& file : {folder_ / "gone", inside_a_file}) {
    EXPECT_EQ(refusal(file, [&] { read_file(file, 100); }), ErrorCode::kNotFound);
    EXPECT_EQ(refusal(file, [&] { MappedFile{file}; }), ErrorCode::kNotFound);
    EXPECT_EQ(refusal(file, [&] { identify_file(file); }), ErrorCode::kNotFound);
  }
}

TEST_F(FileTest, ReadsByPosition) {
  const InputFile file(write("a", "0123456789"));
  EXPECT_EQ(file.identity().size_bytes, 10u);
  std::array<std::byte, 4> four{};
  file.read_at(6, four);
  EXPECT_EQ(text_of(four), "6789");
  file.read_at(10, {});
  const std::uint64_t wraps = ~std::uint64_t{0} - 1;
  for (const std::uint64_t offset : {std::uint64_t{7}, std::uint64_t{11}, wraps}) {
    EXPECT_EQ(refusal(file.path(), [&] { file.read_at(offset, four); }), ErrorCode::kInvalidData);
  }
  fs::resize_file(file.path(), 20);  // what was not there when it was opened is not there
  EXPECT_EQ(refusal(file.path(), [&] { file.read_at(8, four); }), ErrorCode::kInvalidData);
  fs::resize_file(file.path(), 8);
  EXPECT_EQ(refusal(file.path(), [&] { file.read_at(6, four); }), ErrorCode::kInvalidData);
}

TEST_F(FileTest, AnIdentityChangesWithTheFile) {
  const fs::path file = write("a", "same");
  const FileIdentity before = identify_file(file);
  EXPECT_EQ(identify_file(file), before);
  EXPECT_EQ(InputFile(file).identity(), before);
  const fs::path twin = write("b", "same");
  EXPECT_NE(identify_file(twin), before);
  fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1));
  const FileIdentity touched = identify_file(file);
  EXPECT_NE(touched, before);
  fs::resize_file(file, 3);
  EXPECT_NE(identify_file(file).size_bytes, before.size_bytes);
}

TEST_F(FileTest, MapsAndMoves) {
  const fs::path file = write("a", "mapped");
  MappedFile first(file);
  fs::remove(file);
  EXPECT_EQ(text_of(first.bytes()), "mapped");
  MappedFile second(std::move(first));
  EXPECT_TRUE(first.bytes().empty());  // NOLINT(bugprone-use-after-move)
  MappedFile third(write("b", "other"));
  third = std::move(second);
  EXPECT_EQ(text_of(third.bytes()), "mapped");
  EXPECT_TRUE(MappedFile(write("empty", "")).bytes().empty());
}

TEST_F(FileTest, DroppedPagesComeBack) {
  std::string text(50'000, '?');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
  const MappedFile mapped(write("a", text));
  EXPECT_EQ(text_of(mapped.bytes()), text);
  mapped.drop_pages(0, text.size());
  mapped.drop_pages(1, 10);
  mapped.drop_pages(text.size(), 0);
  EXPECT_EQ(text_of(mapped.bytes()), text);
}

TEST_F(FileTest, TruncatedWhileMappedReadsZerosAndTells) {
  const std::string text(100'000, 'x');
  const fs::path whole = write("whole", text);
  const fs::path cut = write("cut", text);
  const MappedFile first(whole);
  {
    const MappedFile second(cut);
    throw_if_cut();
    fs::resize_file(cut, 5000);
    EXPECT_EQ(second.bytes()[0], std::byte{'x'});
    throw_if_cut();  // nothing that is missing was touched
    EXPECT_EQ(second.bytes()[99'999], std::byte{0});
    EXPECT_EQ(second.bytes()[50'000], std::byte{0});
    try {
      throw_if_cut();
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIo);
      EXPECT_THAT(error.what(), testing::HasSubstr(cut.string() + ": was truncated"));
    }
    EXPECT_EQ(text_of(first.bytes()), text);
  }
  throw_if_cut();  // gone with its mapping
}

TEST_F(FileTest, OtherBusErrorsStillEndTheProgram) {
  const fs::path file = write("a", std::string(100'000, 'x'));
  const MappedFile guarded(file);
  EXPECT_EXIT(
      {
        const int descriptor = ::open(file.c_str(), O_RDONLY);
        const auto* unguarded = static_cast<const volatile char*>(
            ::mmap(nullptr, 100'000, PROT_READ, MAP_SHARED, descriptor, 0));
        fs::resize_file(file, 10);
        static_cast<void>(unguarded[50'000]);
        std::exit(0);
      },
      [](int status) { return !WIFEXITED(status) || WEXITSTATUS(status) != 0; }, "");
}

}  // namespace
}  // namespace moeopt
