// The JSON of a safetensors header, turned into entries as it is read, without a tree of it.
// Invariant: memory is proportional to the entries; the first thing that does not belong stops it.
// safetensors.cpp alone uses this, and checks what concerns several entries.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"

namespace moeopt {

class SafetensorsEvents final : public JsonEvents {
 public:
  // Fills header.tensors and header.metadata; `where` opens messages.
  SafetensorsEvents(SafetensorsHeader& header, std::uint64_t file_size_bytes,
                    std::string_view where);

  bool null() override { unexpected(); }
  bool boolean(bool) override { unexpected(); }
  bool number_integer(number_integer_t) override { unexpected(); }
  bool number_unsigned(number_unsigned_t value) override;
  bool number_float(number_float_t, const string_t&) override { unexpected(); }
  bool string(string_t& value) override;
  bool binary(binary_t&) override { unexpected(); }
  bool start_object(std::size_t) override;
  bool key(string_t& name) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  enum class At { kStart, kTop, kMetadata, kTensor, kShape, kOffsets };

  // A tensor's fields so far.
  struct Draft {
    std::optional<DType> dtype;
    bool has_shape = false;
    std::array<std::int64_t, Shape::kMaxRank> extents{};
    std::size_t rank = 0;
    std::array<std::uint64_t, 2> offsets{};
    std::size_t offset_count = 0;
  };

  [[noreturn]] void refuse(const std::string& why) const;
  [[noreturn]] void refuse_tensor(const std::string& why,
                                  ErrorCode code = ErrorCode::kInvalidData) const;
  // A value of the wrong type for the place it is at.
  [[noreturn]] void unexpected() const;
  void field(const std::string& name);
  DType parse_dtype(const std::string& text) const;
  void finish_tensor();

  SafetensorsHeader& header_;
  std::uint64_t data_bytes_;
  std::string_view where_;
  At at_ = At::kStart;
  std::string name_;   // of the tensor, or "__metadata__"
  std::string field_;  // within it
  Draft draft_;
};

}  // namespace moeopt
