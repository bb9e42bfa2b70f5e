#include "checkpoint/safetensors.h"

#include <algorithm>
#include <tuple>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/strings.h"
#include "checkpoint/safetensors_events.h"

namespace moeopt {
namespace {

constexpr std::size_t kMaxNodes = kSafetensorsMaxTensors * 16;
constexpr int kMaxDepth = 8;

void check_unique(const SafetensorsHeader& header, std::string_view where) {
  std::vector<std::string_view> names;
  names.reserve(header.tensors.size());
  for (const SafetensorsEntry& entry : header.tensors) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  if (twin == names.end()) return;
  throw_error(ErrorCode::kInvalidData, "{}: tensor \"{}\": named twice", where, printable(*twin));
}

// Sorts by place and refuses what is not one gapless run over [data_offset, file_size_bytes).
void check_contiguous(SafetensorsHeader& header, std::uint64_t file_size_bytes,
                      std::string_view where) {
  const auto place = [](const SafetensorsEntry& entry) {
    return std::make_tuple(entry.offset, entry.size_bytes, std::string_view(entry.name));
  };
  std::sort(header.tensors.begin(), header.tensors.end(),
            [&](const auto& a, const auto& b) { return place(a) < place(b); });
  std::uint64_t end = header.data_offset;
  const SafetensorsEntry* previous = nullptr;
  const auto previous_text = [&] {
    return previous == nullptr ? "the header" : fmt::format("\"{}\"", printable(previous->name));
  };
  for (const SafetensorsEntry& entry : header.tensors) {
    if (entry.offset < end) {
      throw_error(ErrorCode::kInvalidData, "{}: tensor \"{}\": overlaps {} by {} bytes", where,
                  printable(entry.name), previous_text(), end - entry.offset);
    }
    if (entry.offset > end) {
      throw_error(ErrorCode::kInvalidData, "{}: tensor \"{}\": leaves a hole of {} bytes after {}",
                  where, printable(entry.name), entry.offset - end, previous_text());
    }
    end += entry.size_bytes;
    previous = &entry;
  }
  if (end != file_size_bytes) {
    throw_error(ErrorCode::kInvalidData, "{}: {} bytes after {} belong to no tensor", where,
                file_size_bytes - end, previous_text());
  }
}

}  // namespace

std::uint64_t safetensors_header_end(std::span<const std::byte> first_bytes,
                                     std::uint64_t file_size_bytes, std::string_view where) {
  if (file_size_bytes < kSafetensorsPrefixBytes) {
    throw_error(ErrorCode::kInvalidData, "{}: {} bytes long, too short for a safetensors file",
                where, file_size_bytes);
  }
  MOEOPT_CHECK(first_bytes.size() >= kSafetensorsPrefixBytes);
  std::uint64_t header_bytes = 0;
  for (std::size_t i = kSafetensorsPrefixBytes; i-- > 0;) {
    header_bytes = header_bytes << 8 | std::to_integer<std::uint64_t>(first_bytes[i]);
  }
  constexpr std::uint64_t kLfsPointer = 0x206e6f6973726576;  // "version "
  if (header_bytes == kLfsPointer) {
    throw Error(ErrorCode::kInvalidData, fmt::format("{}: a Git LFS pointer, not the file", where),
                "fetch the file itself: git lfs pull");
  }
  if (header_bytes > kSafetensorsMaxHeaderBytes) {
    throw_error(ErrorCode::kInvalidData,
                "{}: header length {} is above the limit of {}: not a safetensors file?", where,
                header_bytes, kSafetensorsMaxHeaderBytes);
  }
  if (header_bytes > file_size_bytes - kSafetensorsPrefixBytes) {
    throw_error(ErrorCode::kInvalidData, "{}: header of {} bytes in a file of {} bytes: truncated?",
                where, header_bytes, file_size_bytes);
  }
  return kSafetensorsPrefixBytes + header_bytes;
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file_start,
                                           std::uint64_t file_size_bytes, std::string_view where) {
  SafetensorsHeader header;
  header.data_offset = safetensors_header_end(file_start, file_size_bytes, where);
  MOEOPT_CHECK(file_start.size() >= header.data_offset);
  const std::string_view text(
      reinterpret_cast<const char*>(file_start.data()) + kSafetensorsPrefixBytes,
      header.data_offset - kSafetensorsPrefixBytes);
  if (text.empty() || text.front() != '{') {
    throw_error(ErrorCode::kInvalidData, "{}: the header does not start with \"{{\"", where);
  }
  SafetensorsEvents events(header, file_size_bytes, where);
  stream_json(text, where, events,
              {.bytes = kSafetensorsMaxHeaderBytes, .depth = kMaxDepth, .nodes = kMaxNodes});
  check_unique(header, where);
  check_contiguous(header, file_size_bytes, where);
  return header;
}

}  // namespace moeopt
