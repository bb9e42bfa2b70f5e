// One .safetensors file: its checked header, and its data mapped on demand.
// Invariant: what is mapped is the very file whose header was checked; a file that is replaced, cut
// or rewritten in between is refused, never read.
#pragma once

#include <cstddef>
#include <filesystem>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "base/file.h"
#include "checkpoint/safetensors.h"

namespace moeopt {

class Shard {
 public:
  // Reads and checks the header of the file at `real_path`. Messages call it `shown_path`, which in
  // a Hugging Face cache is the symlink that led there.
  Shard(std::filesystem::path shown_path, std::filesystem::path real_path);

  const std::filesystem::path& shown_path() const { return shown_path_; }
  const SafetensorsHeader& header() const { return header_; }
  // Gives the header's entries away, so that each name is kept once.
  std::vector<SafetensorsEntry> take_tensors() { return std::move(header_.tensors); }

  // Bytes [offset, offset + size_bytes) of the file, which a header entry named. Thread-safe.
  // Error(kInvalidData) when the file is not any more what it was.
  std::span<const std::byte> bytes(std::uint64_t offset, std::uint64_t size_bytes) const;

  // These bytes may leave memory; they are read again when touched. Thread-safe.
  void drop(std::uint64_t offset, std::uint64_t size_bytes) const;

 private:
  void check_unchanged(const FileIdentity& now) const;

  std::filesystem::path shown_path_;
  std::filesystem::path real_path_;
  FileIdentity identity_;
  SafetensorsHeader header_;
  mutable std::mutex mutex_;
  mutable MappedFile mapping_;
};

}  // namespace moeopt
