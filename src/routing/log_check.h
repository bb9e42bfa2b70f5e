// What `moeopt routing check` holds a log against: the format's invariants and signs of routing
// that never was.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "routing/log_reader.h"

namespace moeopt {

struct LogCheck {
  std::uint64_t requests = 0, tokens = 0, records = 0, incomplete_requests = 0;
  bool truncated = false;
  std::vector<std::string> complaints;  // what makes the log doubtful; empty: fine
};

// Reads the whole file. Errors as open_routing_log.
LogCheck check_log(const std::filesystem::path& file);

struct ConvertedLog {
  std::uint64_t records = 0;
  bool truncated = false;  // what was there of a cut log was copied
};

// Writes the log in the other format, request by request. A foreign log's missing header fields are
// filled from its records, and named.
ConvertedLog convert_log(const std::filesystem::path& from, const std::filesystem::path& to,
                         bool to_binary);

}  // namespace moeopt
