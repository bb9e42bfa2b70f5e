#include "checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/strings.h"

namespace moeopt {
namespace {

// Values per tensor: its object, dtype, shape with 8 extents, two offsets with their array.
constexpr std::size_t kMaxNodes = kSafetensorsMaxTensors * (5 + Shape::kMaxRank);
constexpr int kMaxDepth = 8;

// In the format, but nothing here computes with them.
constexpr std::array<std::string_view, 14> kUnreadDTypes = {
    "U16", "U32",     "U64",     "C64",         "F8_E5M2",      "F8_E8M0", "F8_E4M3FNUZ",
    "F4",  "F6_E2M3", "F6_E3M2", "F8_E5M2FNUZ", "F4_E2M1FN_X2", "U4",      "I4"};

class TensorParser {
 public:
  TensorParser(std::string_view where, std::string_view name, std::uint64_t data_offset,
               std::uint64_t data_bytes)
      : where_(where), name_(name), data_offset_(data_offset), data_bytes_(data_bytes) {}

  SafetensorsEntry parse(const Json& json) const {
    if (!json.is_object()) refuse(ErrorCode::kInvalidData, "is not an object");
    for (const auto& item : json.items()) {
      if (item.key() != "dtype" && item.key() != "shape" && item.key() != "data_offsets") {
        refuse(ErrorCode::kInvalidData,
               fmt::format("has an unknown field \"{}\"", printable(item.key())));
      }
    }
    SafetensorsEntry entry;
    entry.name = name_;
    entry.dtype = parse_dtype(field(json, "dtype"));
    entry.shape = parse_shape(field(json, "shape"));
    const auto [begin, end] = parse_offsets(field(json, "data_offsets"));
    entry.offset = data_offset_ + begin;
    entry.size_bytes = end - begin;

    const auto elements = entry.shape.checked_elements();
    const auto expected =
        elements ? checked_multiply(*elements, dtype_bytes(entry.dtype)) : std::nullopt;
    if (!expected) {
      refuse(ErrorCode::kInvalidData, fmt::format("shape {} overflows", entry.shape.text()));
    }
    if (*expected != entry.size_bytes) {
      refuse(ErrorCode::kInvalidData,
             fmt::format("{} {} takes {} bytes, data_offsets say {}", dtype_name(entry.dtype),
                         entry.shape.text(), *expected, entry.size_bytes));
    }
    return entry;
  }

 private:
  [[noreturn]] void refuse(ErrorCode code, const std::string& why) const {
    throw_error(code, "{}: tensor \"{}\": {}", where_, printable(name_), why);
  }

  const Json& field(const Json& json, const char* key) const {
    const auto found = json.find(key);
    if (found == json.end()) refuse(ErrorCode::kInvalidData, fmt::format("has no \"{}\"", key));
    return *found;
  }

  DType parse_dtype(const Json& json) const {
    if (!json.is_string()) refuse(ErrorCode::kInvalidData, "dtype is not a string");
    const auto& text = json.get_ref<const std::string&>();
    if (const auto dtype = dtype_from_safetensors(text)) return *dtype;
    const bool in_format =
        std::find(kUnreadDTypes.begin(), kUnreadDTypes.end(), text) != kUnreadDTypes.end();
    if (in_format) {
      refuse(ErrorCode::kUnsupported, fmt::format("dtype {} is not read by this program", text));
    }
    refuse(ErrorCode::kInvalidData, fmt::format("unknown dtype \"{}\"", printable(text, 40)));
  }

  Shape parse_shape(const Json& json) const {
    if (!json.is_array()) refuse(ErrorCode::kInvalidData, "shape is not an array");
    if (json.size() > Shape::kMaxRank) {
      refuse(ErrorCode::kInvalidData,
             fmt::format("rank {}, the limit is {}", json.size(), Shape::kMaxRank));
    }
    std::array<std::int64_t, Shape::kMaxRank> extents{};
    std::size_t rank = 0;
    for (const Json& extent : json) {
      const auto value = whole_number(extent);
      if (!value || *value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
        refuse(ErrorCode::kInvalidData, fmt::format("shape[{}] is not a size", rank));
      }
      extents[rank++] = static_cast<std::int64_t>(*value);
    }
    return Shape(std::span<const std::int64_t>(extents.data(), rank));
  }

  std::pair<std::uint64_t, std::uint64_t> parse_offsets(const Json& json) const {
    const auto begin = json.is_array() && json.size() == 2 ? whole_number(json[0]) : std::nullopt;
    const auto end = begin ? whole_number(json[1]) : std::nullopt;
    if (!end) refuse(ErrorCode::kInvalidData, "data_offsets are not two byte offsets");
    if (*end < *begin) {
      refuse(ErrorCode::kInvalidData,
             fmt::format("data_offsets [{}, {}] run backwards", *begin, *end));
    }
    if (*end > data_bytes_) {
      refuse(ErrorCode::kInvalidData,
             fmt::format("ends at byte {} of the data, the file has {} bytes of it: truncated?",
                         *end, data_bytes_));
    }
    return {*begin, *end};
  }

  static std::optional<std::uint64_t> whole_number(const Json& json) {
    if (!json.is_number_unsigned()) return std::nullopt;
    return json.get<std::uint64_t>();
  }

  std::string_view where_;
  std::string_view name_;
  std::uint64_t data_offset_;
  std::uint64_t data_bytes_;
};

std::map<std::string, std::string> parse_metadata(const Json& json, std::string_view where) {
  if (!json.is_object()) {
    throw_error(ErrorCode::kInvalidData, "{}: __metadata__ is not an object", where);
  }
  std::map<std::string, std::string> metadata;
  for (const auto& item : json.items()) {
    if (!item.value().is_string()) {
      throw_error(ErrorCode::kInvalidData, "{}: __metadata__ \"{}\" is not a string", where,
                  printable(item.key()));
    }
    metadata.emplace(item.key(), item.value().get_ref<const std::string&>());
  }
  return metadata;
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
  std::string_view previous = "the header";
  for (const SafetensorsEntry& entry : header.tensors) {
    if (entry.offset != end) {
      const bool overlaps = entry.offset < end;
      throw_error(ErrorCode::kInvalidData, "{}: tensor \"{}\": {} \"{}\" by {} bytes", where,
                  printable(entry.name), overlaps ? "overlaps" : "leaves a hole after",
                  printable(previous), overlaps ? end - entry.offset : entry.offset - end);
    }
    end += entry.size_bytes;
    previous = entry.name;
  }
  if (end != file_size_bytes) {
    throw_error(ErrorCode::kInvalidData, "{}: {} bytes after \"{}\" belong to no tensor", where,
                file_size_bytes - end, printable(previous));
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
  const Json json = parse_json(
      text, where, {.bytes = kSafetensorsMaxHeaderBytes, .depth = kMaxDepth, .nodes = kMaxNodes});
  if (json.size() > kSafetensorsMaxTensors + 1) {
    throw_error(ErrorCode::kInvalidData, "{}: {} tensors, the limit is {}", where, json.size(),
                kSafetensorsMaxTensors);
  }
  for (const auto& item : json.items()) {
    if (item.key() == "__metadata__") {
      header.metadata = parse_metadata(item.value(), where);
      continue;
    }
    if (item.key().size() > kSafetensorsMaxNameBytes) {
      throw_error(ErrorCode::kInvalidData, "{}: tensor \"{}\": name of {} bytes, the limit is {}",
                  where, printable(item.key(), 40), item.key().size(), kSafetensorsMaxNameBytes);
    }
    const TensorParser parser(where, item.key(), header.data_offset,
                              file_size_bytes - header.data_offset);
    header.tensors.push_back(parser.parse(item.value()));
  }
  check_contiguous(header, file_size_bytes, where);
  return header;
}

}  // namespace moeopt
