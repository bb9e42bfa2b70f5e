// The compact binary format, reading side (docs/SCHEMA.md).
#pragma once

#include <memory>

#include "routing/log_input.h"
#include "routing/log_reader.h"

namespace moeopt {

class BinaryReader final : public RoutingLogReader {
 public:
  // Error(kInvalidData) for a bad header.
  explicit BinaryReader(LogInput input);
  bool next(RequestRoutes& routes) override;

 private:
  void read_header();
  // The next block's payload into payload_; false at the end, or where the file is cut.
  bool read_block(std::uint32_t& tag);
  void parse_request(RequestRoutes& routes);

  LogInput input_;
  std::vector<std::byte> payload_;
  std::uint64_t block_begin_ = 0;
};

}  // namespace moeopt
