// Counting what routers chose: the always-on counters' work on the host.
#pragma once

#include <cstdint>
#include <span>

namespace moeopt {

// Adds one to counts[id] for each chosen expert; ids are within `counts`.
inline void count_choices(std::span<const std::int32_t> experts, std::span<std::uint32_t> counts) {
  for (const std::int32_t expert : experts) counts[static_cast<std::size_t>(expert)] += 1;
}

}  // namespace moeopt
