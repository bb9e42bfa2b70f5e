#include "checkpoint/safetensors_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "base/strings.h"

namespace moeopt {
namespace {

constexpr std::string_view kMetadataName = "__metadata__";
constexpr std::size_t kMaxMetadata = 100'000;

// In the format, but nothing here computes with them.
constexpr std::array<std::string_view, 11> kUnreadDTypes = {
    "U16",         "U32",         "U64", "C64",     "F8_E5M2", "F8_E8M0",
    "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F4",  "F6_E2M3", "F6_E3M2"};

}  // namespace

SafetensorsEvents::SafetensorsEvents(SafetensorsHeader& header, std::uint64_t file_size_bytes,
                                     std::string_view where)
    : header_(header), data_bytes_(file_size_bytes - header.data_offset), where_(where) {}

bool SafetensorsEvents::start_object(std::size_t) {
  if (at_ == At::kStart) {
    at_ = At::kTop;
  } else if (at_ == At::kTop && name_ == kMetadataName) {
    at_ = At::kMetadata;
  } else if (at_ == At::kTop) {
    if (header_.tensors.size() == kSafetensorsMaxTensors) {
      refuse(fmt::format("more than {} tensors", kSafetensorsMaxTensors));
    }
    at_ = At::kTensor;
    draft_ = {};
  } else {
    unexpected();
  }
  return true;
}

bool SafetensorsEvents::key(string_t& name) {
  if (at_ != At::kTop) {
    field(name);
    return true;
  }
  name_ = std::move(name);
  if (name_.size() > kSafetensorsMaxNameBytes) {
    refuse_tensor(
        fmt::format("name of {} bytes, the limit is {}", name_.size(), kSafetensorsMaxNameBytes));
  }
  return true;
}

void SafetensorsEvents::field(const std::string& name) {
  field_ = name;
  if (at_ == At::kMetadata) return;
  const bool again = (name == "dtype" && draft_.dtype.has_value()) ||
                     (name == "shape" && draft_.has_shape) ||
                     (name == "data_offsets" && draft_.offset_count != 0);
  if (again) refuse_tensor(fmt::format("duplicate key \"{}\"", name));
  if (name != "dtype" && name != "shape" && name != "data_offsets") {
    refuse_tensor(fmt::format("unknown field \"{}\"", printable(name)));
  }
}

bool SafetensorsEvents::end_object() {
  if (at_ == At::kTensor) finish_tensor();
  at_ = At::kTop;
  return true;
}

bool SafetensorsEvents::start_array(std::size_t) {
  if (at_ == At::kTensor && field_ == "shape") {
    at_ = At::kShape;
    draft_.has_shape = true;
  } else if (at_ == At::kTensor && field_ == "data_offsets") {
    at_ = At::kOffsets;
  } else {
    unexpected();
  }
  return true;
}

bool SafetensorsEvents::end_array() {
  if (at_ == At::kOffsets && draft_.offset_count != draft_.offsets.size()) unexpected();
  at_ = At::kTensor;
  return true;
}

bool SafetensorsEvents::number_unsigned(number_unsigned_t value) {
  if (at_ == At::kShape) {
    if (draft_.rank == Shape::kMaxRank) {
      refuse_tensor(fmt::format("rank above the limit of {}", Shape::kMaxRank));
    }
    if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) unexpected();
    draft_.extents[draft_.rank++] = static_cast<std::int64_t>(value);
  } else if (at_ == At::kOffsets && draft_.offset_count < draft_.offsets.size()) {
    draft_.offsets[draft_.offset_count++] = value;
  } else {
    unexpected();
  }
  return true;
}

bool SafetensorsEvents::string(string_t& value) {
  if (at_ == At::kMetadata) {
    if (header_.metadata.size() == kMaxMetadata) {
      refuse(fmt::format("{} has more than {} entries", kMetadataName, kMaxMetadata));
    }
    if (!header_.metadata.emplace(field_, std::move(value)).second) {
      refuse(fmt::format("{}: duplicate key \"{}\"", kMetadataName, printable(field_)));
    }
  } else if (at_ == At::kTensor && field_ == "dtype") {
    draft_.dtype = parse_dtype(value);
  } else {
    unexpected();
  }
  return true;
}

DType SafetensorsEvents::parse_dtype(const std::string& text) const {
  if (const auto dtype = dtype_from_safetensors(text)) return *dtype;
  if (std::find(kUnreadDTypes.begin(), kUnreadDTypes.end(), text) != kUnreadDTypes.end()) {
    refuse_tensor(fmt::format("dtype {} is not read by this program", text),
                  ErrorCode::kUnsupported);
  }
  refuse_tensor(fmt::format("unknown dtype \"{}\"", printable(text, 40)));
}

void SafetensorsEvents::finish_tensor() {
  if (!draft_.dtype) refuse_tensor("has no \"dtype\"");
  if (!draft_.has_shape) refuse_tensor("has no \"shape\"");
  if (draft_.offset_count == 0) refuse_tensor("has no \"data_offsets\"");
  const auto [begin, end] = draft_.offsets;
  if (end < begin) refuse_tensor(fmt::format("data_offsets [{}, {}] run backwards", begin, end));
  if (end > data_bytes_) {
    refuse_tensor(fmt::format(
        "ends at byte {} of the data, the file has {} bytes of it: truncated?", end, data_bytes_));
  }
  const Shape shape(std::span<const std::int64_t>(draft_.extents.data(), draft_.rank));
  const auto elements = shape.checked_elements();
  const auto size_bytes =
      elements ? checked_multiply(*elements, dtype_bytes(*draft_.dtype)) : std::nullopt;
  if (!size_bytes) refuse_tensor(fmt::format("shape {} overflows", shape.text()));
  if (*size_bytes != end - begin) {
    refuse_tensor(fmt::format("{} {} takes {} bytes, data_offsets say {}",
                              dtype_name(*draft_.dtype), shape.text(), *size_bytes, end - begin));
  }
  header_.tensors.push_back({.name = std::move(name_),
                             .dtype = *draft_.dtype,
                             .shape = shape,
                             .offset = header_.data_offset + begin,
                             .size_bytes = end - begin});
}

void SafetensorsEvents::unexpected() const {
  switch (at_) {
    case At::kStart:
      refuse("the header is not an object");
    case At::kTop:
      if (name_ == kMetadataName) refuse(fmt::format("{} is not an object", kMetadataName));
      refuse_tensor("is not an object");
    case At::kMetadata:
      refuse(fmt::format("{}: \"{}\" is not a string", kMetadataName, printable(field_)));
    case At::kTensor:
      if (field_ == "dtype") refuse_tensor("dtype is not a string");
      if (field_ == "shape") refuse_tensor("shape is not an array");
      break;
    case At::kShape:
      refuse_tensor(fmt::format("shape[{}] is not a size", draft_.rank));
    case At::kOffsets:
      break;
  }
  refuse_tensor("data_offsets are not two byte offsets");
}

void SafetensorsEvents::refuse(const std::string& why) const {
  throw_error(ErrorCode::kInvalidData, "{}: {}", where_, why);
}

void SafetensorsEvents::refuse_tensor(const std::string& why, ErrorCode code) const {
  throw_error(code, "{}: tensor \"{}\": {}", where_, printable(name_), why);
}

}  // namespace moeopt
