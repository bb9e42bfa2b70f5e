// Reading files: whole and bounded, piece by piece, or mapped read-only.
// Invariant: only regular files are ever read; a FIFO or folder in a file's place is refused at
// once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace moeopt {

// The whole file. Error(kNotFound) when absent, Error(kInvalidData) above `limit_bytes`,
// Error(kIo).
std::string read_file(const std::filesystem::path& file, std::size_t limit_bytes);

// All of it to an open file, whatever interrupts. False: errno says why.
bool write_fully(int descriptor, std::span<const std::byte> bytes);

// Writes a new file and renames it into place, so that a reader never sees half of it; a device or
// a pipe is written into. Error(kIo).
void write_file(const std::filesystem::path& file, std::span<const std::byte> bytes);

// Which file, and which state of it: equal when nothing replaced, resized or rewrote it in between.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;

  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// Error(kNotFound), Error(kIo), or Error(kInvalidData) when it is not a regular file.
FileIdentity identify_file(const std::filesystem::path& file);

// An open regular file, read by position.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path file);
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();

  const std::filesystem::path& path() const { return path_; }
  // As of the moment it was opened.
  const FileIdentity& identity() const { return identity_; }

  // Fills `into` from `offset`. Error(kInvalidData) when the file ends before, Error(kIo).
  void read_at(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  friend class MappedFile;

  std::filesystem::path path_;
  int descriptor_;
  FileIdentity identity_;
};

// Reads the pages of `mapped` into memory and maps them now instead of at first touch. A hint: what
// the kernel declines is read when it is touched.
void read_ahead(std::span<const std::byte> mapped);

// A regular file mapped read-only for its lifetime. Its size is that of the moment it was opened:
// what another process truncates later reads as zeros, and throw_if_cut() (base/mapping_guard.h)
// tells.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& file);
  explicit MappedFile(const InputFile& file);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

  // The pages that lie wholly in [offset, offset + size_bytes) leave this process's memory; they
  // are read again from the file when touched.
  void drop_pages(std::uint64_t offset, std::uint64_t size_bytes) const;

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace moeopt
