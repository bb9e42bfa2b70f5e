// LogInput: a file or bytes in memory, read forwards through one bounded window.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace moeopt {

class LogInput {
 public:
  explicit LogInput(const std::filesystem::path& file);
  LogInput(std::span<const std::byte> bytes, std::string name);

  const std::string& name() const { return name_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  std::uint64_t offset() const { return offset_; }            // of the next byte
  std::uint64_t line_number() const { return line_number_; }  // of the last line(), from 1
  void rewind() { seek(0); }

  // Fills `into` and moves on; false (nothing moved) when fewer bytes are left.
  bool read(std::span<std::byte> into);
  // The next line without its line feed, valid until the next call; false at the end. `ended` says
  // whether there was a line feed. Error(kInvalidData) for a line above `limit_bytes`.
  bool line(std::string_view& text, bool& ended, std::size_t limit_bytes);

 private:
  void seek(std::uint64_t offset);
  std::span<const std::byte> window(std::size_t at_least);

  std::unique_ptr<InputFile> file_;
  std::span<const std::byte> memory_;
  std::string name_;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t offset_ = 0;
  std::vector<std::byte> buffer_;  // of a file: [buffer_begin_, buffer_begin_ + buffer_.size())
  std::uint64_t buffer_begin_ = 0;
  std::uint64_t line_number_ = 0;
};

}  // namespace moeopt
