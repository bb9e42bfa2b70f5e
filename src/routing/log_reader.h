// RoutingLogReader: opens a routing log of either format, or another engine's log in the same JSONL
// form, and hands out its requests. The file is untrusted.
// Invariant: memory stays bounded whatever the file says; every record handed out was complete and
// within the header's layers, experts and top-k; a file cut short is read up to its last full
// record and says so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "routing/routing_log.h"

namespace moeopt {

class RoutingLogReader {
 public:
  virtual ~RoutingLogReader() = default;

  const RoutingHeader& header() const { return header_; }
  // The next request, or part of one (`complete` false); false at the end. Error(kInvalidData)
  // names file, line or byte, and field.
  virtual bool next(RequestRoutes& routes) = 0;

  // After next() said false:
  bool truncated() const { return truncated_; }
  // (token, layer) records handed out.
  std::uint64_t records() const { return records_; }
  // The log's last own count, when it has one.
  const std::optional<RoutingTotals>& stated() const { return stated_; }

 protected:
  RoutingHeader header_;
  bool truncated_ = false;
  std::uint64_t records_ = 0;
  std::optional<RoutingTotals> stated_;
};

// Error(kNotFound), Error(kIo), Error(kInvalidData).
std::unique_ptr<RoutingLogReader> open_routing_log(const std::filesystem::path& file);
// The same over bytes in memory, which must outlive the reader; `name` stands in messages.
std::unique_ptr<RoutingLogReader> open_routing_log(std::span<const std::byte> bytes,
                                                   std::string name);

}  // namespace moeopt
