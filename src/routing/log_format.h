// The two file formats of a routing log, writing side: JSON lines, and the compact binary
// (docs/SCHEMA.md). Pure text and bytes: no file is touched here.
// Invariant: what one encode call returns is a whole number of records.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "routing/routing_log.h"

namespace moeopt {

enum class LogFormat { kJsonl, kBinary };
// "jsonl", "binary"; Error(kUsage) otherwise.
LogFormat log_format_from_name(std::string_view name);

inline constexpr std::string_view kRoutingSchema = "moeopt-routing/1";
inline constexpr std::string_view kBinaryMagic = "MOEROUTE";
inline constexpr std::uint32_t kBinaryVersion = 1;
// Block tags of the binary format, as they read in the file.
inline constexpr std::uint32_t kRequestTag = 0x54535152;  // "RQST"
inline constexpr std::uint32_t kTotalsTag = 0x544f5452;   // "RTOT"
inline constexpr std::uint32_t kMaxBlockBytes = std::uint32_t{1} << 30;
inline constexpr std::size_t kMaxRequestIdBytes = 256;

class LogEncoder {
 public:
  virtual ~LogEncoder() = default;
  virtual std::string header(const RoutingHeader& header) const = 0;
  virtual std::string request(const RoutingHeader& header, const RequestRoutes& routes) = 0;
  virtual std::string totals(const RoutingTotals& totals) const = 0;
};
std::unique_ptr<LogEncoder> make_log_encoder(LogFormat format);

// The header as JSON, both formats' own.
std::string header_json(const RoutingHeader& header);
// Fields that are absent are named in `missing`, other than layers_logged, n_experts and top_k,
// which a reader finds out from the records, they have no defaults. Error(kInvalidData) opens with
// `where` and names the field.
RoutingHeader parse_header(const Json& json, std::string_view where);

std::string totals_json(const RoutingTotals& totals);
RoutingTotals parse_totals(const Json& json, std::string_view where);

// An fp16 weight as the shortest decimal text that reads back as the same fp16.
std::string_view weight_text(std::uint16_t bits, std::span<char, 32> buffer);

}  // namespace moeopt
