// Scoring: a text's logits at every position, without sampling. For evaluation, on an idle backend,
// whose blocks it writes over: an engine on it must forget_prefixes() afterwards.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "backend/backend.h"
#include "routing/route_sink.h"

namespace moeopt {

// Runs `ids` as one sequence from position 0 in chunks of at most `max_rows` tokens (bounded by the
// backend's own logit rows) and calls `on_row` for each position in order with its [vocab] logits.
// `sink` (may be null) gets the routes as those of request `request`.
// Error(kUsage) when the ids are none, too many for the backend's blocks, or outside the
// vocabulary.
void score(Backend& backend, std::span<const std::int32_t> ids, int max_rows,
           const std::function<void(int position, std::span<const float> logits)>& on_row,
           RouteSink* sink = nullptr, std::uint64_t request = 0);

// -log softmax(logits)[id], natural, computed in double.
double negative_log_likelihood(std::span<const float> logits, std::int32_t id);

}  // namespace moeopt
