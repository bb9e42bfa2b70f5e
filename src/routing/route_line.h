// One "route" line of a JSONL log, read the quick way: a scanner for the flat objects that this
// program and other engines' loggers write, with any spacing and key order.
// Invariant: when it says yes, the strict JSON parser would have read the same; when it says no,
// that parser decides and explains.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"
#include "routing/routing_log.h"

namespace moeopt {

struct RouteLine {
  std::string request;
  std::uint32_t token = 0;
  int layer = 0;
  RoutePhase phase = RoutePhase::kUnknown;
  bool replayed = false;
  int n_ids = 0;
  int n_weights = -1;  // -1: the line has none
  std::array<std::uint16_t, kMaxTopK> ids;
  std::array<float, kMaxTopK> weights;
};

bool scan_route_line(std::string_view text, RouteLine& line);

// From a parsed object whose type is "route". Error(kInvalidData) opens with `where` and names the
// field.
void read_route(const Json& json, std::string_view where, RouteLine& line);

}  // namespace moeopt
