// ConfigReader: typed, bounded access to one JSON object of a config.json.
// Invariant: every value it returns has been checked for type and range; every refusal is an
// Error(kInvalidData) of the form "FILE: outer.field: why". null counts as absent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace moeopt {

// Bounds on what a config may ask for: far above any model, far below what overflows or exhausts.
namespace config_limits {
inline constexpr std::int64_t kLayers = 1024;
inline constexpr std::int64_t kHidden = 65536;
inline constexpr std::int64_t kIntermediate = std::int64_t{1} << 20;
inline constexpr std::int64_t kHeads = 4096;
inline constexpr std::int64_t kHeadDim = 4096;
inline constexpr std::int64_t kExperts = 4096;
inline constexpr std::int64_t kVocab = 4'000'000;
inline constexpr std::int64_t kPosition = std::int64_t{1} << 30;
inline constexpr std::int64_t kRoutedExpertsOfModel = std::int64_t{1} << 17;  // layers x experts
}  // namespace config_limits

class ConfigReader {
 public:
  // `object` must outlive the reader. Throws when it is not an object. `path` is what precedes a
  // field's name in messages ("rope_scaling." for a child).
  ConfigReader(const Json& object, std::string where, std::string path = {});

  bool has(std::string_view field) const { return find(field) != nullptr; }

  std::int64_t integer(std::string_view field, std::int64_t low, std::int64_t high) const;
  std::int64_t integer_or(std::string_view field, std::int64_t fallback, std::int64_t low,
                          std::int64_t high) const;
  // The same for extents: at least 1.
  int extent(std::string_view field, std::int64_t high) const;
  int extent_or(std::string_view field, std::int64_t fallback, std::int64_t high) const;

  double number(std::string_view field, double low, double high) const;
  double number_or(std::string_view field, double fallback, double low, double high) const;
  bool flag_or(std::string_view field, bool fallback) const;
  std::string text_or(std::string_view field, std::string_view fallback) const;  // <= 256 bytes

  // One integer or a list of them; empty when absent.
  std::vector<std::int64_t> integers(std::string_view field, std::int64_t low, std::int64_t high,
                                     std::size_t max_items) const;
  std::vector<std::string> texts(std::string_view field, std::size_t max_items) const;

  std::optional<ConfigReader> child(std::string_view field) const;

  const std::string& where() const { return where_; }
  [[noreturn]] void refuse(std::string_view field, std::string_view why) const;

 private:
  const Json* find(std::string_view field) const;
  const Json& require(std::string_view field) const;
  std::int64_t integer_value(const Json& value, std::string_view field, std::int64_t low,
                             std::int64_t high) const;
  std::string text_value(const Json& value, std::string_view field) const;

  const Json* object_;
  std::string where_;
  std::string path_;
};

}  // namespace moeopt
