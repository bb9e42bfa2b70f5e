// A constraint that begins after a certain token: for models that think before they answer in JSON.
// Invariant: until that token comes every token may, but for the end ids.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "text/grammar/token_constraint.h"

namespace moeopt {

// Follows `constraint` once `begin_id` (a model's </think>) was accepted; ids below `n_ids` may
// come before it, those in `end_ids` may not.
std::unique_ptr<TokenConstraint> constrained_after(std::int32_t begin_id, std::int32_t n_ids,
                                                   std::span<const std::int32_t> end_ids,
                                                   std::unique_ptr<TokenConstraint> constraint);

}  // namespace moeopt
