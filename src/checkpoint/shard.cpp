#include "checkpoint/shard.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace moeopt {

Shard::Shard(std::filesystem::path shown_path, std::filesystem::path real_path)
    : shown_path_(std::move(shown_path)), real_path_(std::move(real_path)) {
  const InputFile file(real_path_);
  identity_ = file.identity();
  const std::string where = shown_path_.string();
  std::vector<std::byte> start(
      std::min<std::uint64_t>(kSafetensorsPrefixBytes, identity_.size_bytes));
  file.read_at(0, start);
  start.resize(safetensors_header_end(start, identity_.size_bytes, where));
  file.read_at(0, start);
  header_ = parse_safetensors_header(start, identity_.size_bytes, where);
}

std::span<const std::byte> Shard::bytes(std::uint64_t offset, std::uint64_t size_bytes) const {
  const std::lock_guard lock(mutex_);
  if (mapping_.bytes().empty()) {
    const InputFile file(real_path_);
    check_unchanged(file.identity());
    mapping_ = MappedFile(file);
  } else {
    check_unchanged(identify_file(real_path_));
  }
  return mapping_.bytes().subspan(offset, size_bytes);
}

void Shard::drop(std::uint64_t offset, std::uint64_t size_bytes) const {
  const std::lock_guard lock(mutex_);
  if (!mapping_.bytes().empty()) mapping_.drop_pages(offset, size_bytes);
}

void Shard::check_unchanged(const FileIdentity& now) const {
  if (now == identity_) return;
  throw_error(ErrorCode::kInvalidData,
              "{}: changed while the model was being read ({} bytes when opened, {} now)",
              shown_path_.string(), identity_.size_bytes, now.size_bytes);
}

}  // namespace moeopt
