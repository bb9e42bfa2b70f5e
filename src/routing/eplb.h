// The load balancer that DeepSeek published for expert parallelism (EPLB), derived again from its
// description: heavy experts get copies, then copies are packed by weight. Here as what our own
// placement is compared with.
// Two policies: global (copies anywhere) and hierarchical (the router's groups are packed onto
// hosts, copies stay on their host).
#pragma once

#include <optional>
#include <span>

#include "routing/placement.h"

namespace moeopt {

// nullopt where the algorithm has no answer: (experts + redundant) must be a multiple of the GPUs,
// and of the hosts' share for the hierarchical policy. It takes the hierarchical policy when there
// is more than one host and the groups are a multiple of the hosts.
std::optional<LayerPlacement> eplb_placement(const PlacementShape& shape,
                                             std::span<const double> rows);

}  // namespace moeopt
