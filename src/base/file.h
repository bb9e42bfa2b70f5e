// Reading files: whole and bounded, or mapped read-only.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace moeopt {

// The whole file. Error(kNotFound) when absent, Error(kInvalidData) above `limit_bytes`, Error(kIo).
std::string read_file(const std::filesystem::path& file, std::size_t limit_bytes);

// Writes a new file and renames it into place, so that a reader never sees half of it. Error(kIo).
void write_file(const std::filesystem::path& file, std::span<const std::byte> bytes);

// A regular file mapped read-only for its lifetime. Its size is read once, when opened: a file that
// another process truncates later raises SIGBUS on access, as with every mapping.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& file);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace moeopt
